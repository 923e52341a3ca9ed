"""The one way into a container and out of it that is not a network: unix sockets in a volume, and a relay.

    host ── 127.0.0.1, with a key ──► relay ── socket ──► forwarder ──► 127.0.0.1:port, the task's server
    the endpoint ◄── HTTP, counted ── relay ◄── socket ── forwarder ◄── 127.0.0.1:8399, the agent's calls

The relay is a container of its own; the forwarder runs in the task's container as root. The host itself opens nothing
that the agent could have written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.isolation.call_log import CallLog
from taskgate.harness.sandbox.isolation.endpoint import GATEWAY, Endpoint
from taskgate.harness.sandbox.isolation.forwarder_link import ENDPOINT_PORT, SOCKETS, ForwarderLink
from taskgate.harness.sandbox.isolation.relay_watch import RelayWatch
from taskgate.harness.sandbox.isolation.sidecar import Sidecar
from taskgate.harness.sandbox.isolation.tools import Tools

RELAY_PORT = 8080
KEY = "X-Taskgate-Key"
# Room for sockets and nothing else: the agent may be root, and the volume is no part of its limits.
VOLUME = {"type": "tmpfs", "device": "tmpfs", "o": "nr_inodes=32,mode=0700"}
# Podman takes a size for a quota of its own. There the container's memory is the limit.
SIZE = ",size=64k"


def new_key() -> str:
    """A key for `RelayLink`."""
    return secrets.token_hex(24)


class RelayLink:
    """The relay and its volume for one container: make it, mount `binds` there, `join` it, `close` it.

    `url` is where the host reaches the task's server; a request needs `headers`. `key_url` needs none: the key is the
    first part of its path. Neither URL exists without a `port`.
    """

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
        key: str | None = None,
        log: CallLog | None = None,
    ) -> None:
        """Raises InfraError.

        `port`: the server's in the container. `calls`: so many the endpoint answers. `key`: one of `new_key`, where
        the caller wants to know it beforehand. `log`: closed with this object.
        """
        self._engine, self._port, self._endpoint = engine, port, endpoint
        self.key = key or new_key()
        self._log = log
        self._watch: RelayWatch | None = None
        self._relay: Sidecar | None = None
        self._forwarder = ForwarderLink(engine, tools, port=port, serves_endpoint=endpoint is not None)
        self._volume = f"taskgate-room-{secrets.token_hex(8)}"
        self._make_volume(ownership.labels(session, seconds))
        self.binds = [f"{self._volume}:{SOCKETS}:nocopy", *tools.binds]
        try:
            self._relay = self._start(tools, session, seconds, calls)
            self._relay.receive()
            self.url = f"http://127.0.0.1:{self._relay.port(RELAY_PORT)}" if port else ""
            self.key_url = f"{self.url}/{self.key}" if port else ""
            self._watch = RelayWatch(self._relay, log)
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
        """The answer that the agent gets."""
        return {"TASKGATE_ENDPOINT": f"http://127.0.0.1:{ENDPOINT_PORT}"} if self._endpoint else {}

    @property
    def calls(self) -> int:
        """How many calls the endpoint has had, as far as is known; `sync` makes it exact."""
        return self._watch.calls if self._watch else 0

    @property
    def endpoint_failure(self) -> str | None:
        """What the endpoint's last answer says against the endpoint; None where it is sound, or was never called."""
        return self._watch.endpoint_failure if self._watch else None

    def join(self, container: Container) -> None:
        """Start the forwarder in the running container. Raises InfraError."""
        self._forwarder.start(container)

    def check(self) -> None:
        """Is the way still open? A forwarder that the agent ended is started again. Raises InfraError where the relay
        has ended, which no agent can bring about."""
        if self._watch and self._watch.failure:
            raise self._watch.failure
        self._forwarder.check()

    def sync(self) -> None:
        """Wait until all calls that have begun are counted, or the relay's end is noticed; `check` tells of it."""
        if self._watch:
            self._watch.sync()

    def close(self) -> None:
        """Remove the relay and the volume, once the task's container is gone. Raises InfraError."""
        self._forwarder.close()
        if self._watch:
            self._watch.close()
        if self._log:
            self._log.close()
        if self._relay:
            self._relay.close()
        self._engine.remove_volume(self._volume)

    def _make_volume(self, labels: dict[str, str]) -> None:
        options = {**VOLUME, "o": VOLUME["o"] + ("" if self._engine.podman else SIZE)}
        self._engine.create_volume(self._volume, labels, driver="local", options=options)

    def _start(self, tools: Tools, session: str, seconds: float, calls: int | None) -> Sidecar:
        endpoint = self._endpoint
        config = {
            "key": self.key,
            "port": RELAY_PORT,
            "in": f"{SOCKETS}/in" if self._port else None,
            "out": f"{SOCKETS}/out",
            "endpoint": endpoint.url if endpoint else None,
            "headers": dict(endpoint.headers) if endpoint else {},
            "calls": calls,
            "ca": _authorities(),
        }
        return Sidecar(
            self._engine,
            tools,
            "relay.py",
            session=session,
            seconds=seconds,
            network="bridge",
            binds=[f"{self._volume}:{SOCKETS}:nocopy"],
            publish=RELAY_PORT if self._port else None,
            hosts={GATEWAY: "host-gateway"} if endpoint and urlsplit(endpoint.url).hostname == GATEWAY else None,
            config=config,
        )


def _authorities() -> Any:
    """Certificates that this host trusts besides the usual ones."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return Path(path).read_text() if path else None
    except OSError:
        return None
