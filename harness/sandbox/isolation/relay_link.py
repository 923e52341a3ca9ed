"""The one way into a container and out of it that is not a network: unix sockets in a volume, and a relay.

    host ── 127.0.0.1, with a key ──► relay ── socket ──► bridge ──► 127.0.0.1:port, the task's server
    the endpoint ◄── HTTP, counted ── relay ◄── socket ── bridge ◄── 127.0.0.1:8399, the agent's calls

The relay is a container of its own; the bridge runs in the task's container as root. The host itself opens nothing
that the agent could have written.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taskgate.harness.base.errors import InfraError, IsolationError
from taskgate.harness.engine import classification, ownership
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.isolation.sidecar import Sidecar
from taskgate.harness.sandbox.isolation.tools import Tools

SOCKETS = "/.taskgate-relay"
RELAY_PORT = 8080
ENDPOINT_PORT = 8399
KEY = "X-Taskgate-Key"
BRIDGE_SECONDS = 60.0
# Room for sockets and nothing else: the agent may be root, and the volume is no part of its limits.
VOLUME = {"type": "tmpfs", "device": "tmpfs", "o": "nr_inodes=32,mode=0700"}
# Podman takes a size for a quota of its own. There the container's memory is the limit.
SIZE = ",size=64k"
GATEWAY = "host.docker.internal"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What an agent may call: a URL (http or https) and all below it. `headers` are added by the relay and are never
    seen in the task's container."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RelayLink:
    """The relay and its volume for one container: make it, mount `binds` there, `join` it, `close` it."""

    def __init__(
        self,
        engine: Engine,
        tools: Tools,
        session: str,
        *,
        port: int | None,
        endpoint: Endpoint | None,
        calls: int | None,
        seconds: float,
    ) -> None:
        """`port`: the server's in the container. `calls`: so many the endpoint answers. Raises InfraError."""
        self._engine, self._tools, self._port, self._endpoint = engine, tools, port, endpoint
        self._calls = 0
        self._frames: AttachStream | None = None
        self._relay: Sidecar | None = None
        self.key = secrets.token_hex(24)
        self._volume = f"taskgate-room-{secrets.token_hex(8)}"
        options = {**VOLUME, "o": VOLUME["o"] + ("" if engine.podman else SIZE)}
        with classification.translated("making a volume for sockets"):
            engine.api.create_volume(
                self._volume, driver="local", driver_opts=options, labels=ownership.labels(session, seconds)
            )
        self.binds = [f"{self._volume}:{SOCKETS}:nocopy", *tools.binds]
        try:
            self._relay = Sidecar(
                engine,
                tools,
                "relay.py",
                session=session,
                seconds=seconds,
                network="bridge",
                binds=[f"{self._volume}:{SOCKETS}:nocopy"],
                publish=RELAY_PORT if port else None,
                hosts={GATEWAY: "host-gateway"} if endpoint and urlsplit(endpoint.url).hostname == GATEWAY else None,
                config={
                    "key": self.key,
                    "port": RELAY_PORT,
                    "in": f"{SOCKETS}/in" if port else None,
                    "out": f"{SOCKETS}/out",
                    "endpoint": endpoint.url if endpoint else None,
                    "headers": dict(endpoint.headers) if endpoint else {},
                    "calls": calls,
                    "ca": _authorities(),
                },
            )
            self._relay.hear()
            self.url = f"http://127.0.0.1:{self._relay.port(RELAY_PORT)}" if port else ""
        except BaseException:
            with contextlib.suppress(InfraError):
                self.close()
            raise

    @property
    def headers(self) -> dict[str, str]:
        """What a request to `url` must carry."""
        return {KEY: self.key}

    @property
    def environment(self) -> dict[str, str]:
        """What the agent is told."""
        return {"TASKGATE_ENDPOINT": f"http://127.0.0.1:{ENDPOINT_PORT}"} if self._endpoint else {}

    @property
    def calls(self) -> int:
        """How many calls the endpoint has had."""
        for said in self._relay.heard() if self._relay else ():
            self._calls = said.get("calls", self._calls)
        return self._calls

    def join(self, container: Container) -> None:
        """Start the bridge in the running container. Raises InfraError."""
        source = resources.files("taskgate.harness.sandbox.isolation").joinpath("forwarder.py").read_text("utf-8")
        config = {
            "port": self._port,
            "in": f"{SOCKETS}/in",
            "out": f"{SOCKETS}/out",
            "endpoint_port": ENDPOINT_PORT if self._endpoint else None,
        }
        api = self._engine.api
        with classification.translated("starting the bridge in the container"):
            made = api.exec_create(
                container.id, [self._tools.python, "-I", "-c", source, json.dumps(config)], user="0", workdir="/"
            )["Id"]
            self._frames = AttachStream(api.exec_start(made, socket=True))
        said, deadline = b"", time.monotonic() + BRIDGE_SECONDS
        while b"ready\n" not in said:
            parts = self._frames.read(max(deadline - time.monotonic(), 0.001))
            if not parts:
                raise IsolationError(f"the bridge did not start: {said.decode('utf-8', 'replace')[-2000:]}")
            said += b"".join(part for _, part in parts)

    def close(self) -> None:
        """Remove the relay and the volume, once the task's container is gone. Raises InfraError."""
        if self._frames:
            with contextlib.suppress(OSError):
                self._frames.close()
        if self._relay:
            self._relay.close()
        self._engine.remove_volume(self._volume)


def _authorities() -> Any:
    """Certificates that this host trusts besides the usual ones."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return Path(path).read_text() if path else None
    except OSError:
        return None
