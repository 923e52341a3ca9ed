"""A small container of nothing but a runtime's Python, in which one of taskgate's own scripts runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from docker.types import LogConfig

from taskgate.harness.base.errors import InfraError, IsolationError
from taskgate.harness.engine import classification, ownership
from taskgate.harness.engine.attach_stream import STDERR, AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.tools import Tools

START_SECONDS = 60.0
MEMORY_BYTES = 256 << 20
PIDS = 128
LINE_BYTES = 4 << 20


class Sidecar:
    """Spoken to in JSON, a document a line, over its stdin and stdout. It ends when its stdin does: at the latest
    with the process that made it."""

    def __init__(
        self,
        engine: Engine,
        tools: Tools,
        script: str,
        *,
        session: str,
        seconds: float,
        network: str,
        config: Mapping[str, Any] | None = None,
        binds: Sequence[str] = (),
        publish: int | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        """Start `script` (a file of this folder) and hand it `config`. Raises InfraError.

        `publish`: a port that gets one of the host's loopback interface.
        """
        self._engine, self._script, self._pending, self._said = engine, script, b"", b""
        api = engine.api
        source = resources.files("taskgate.harness.sandbox.isolation").joinpath(script).read_text("utf-8")
        with classification.translated(f"making the container of {script}"):
            created = api.create_container(
                tools.image,
                entrypoint=[tools.python, "-I", "-c", source],
                command=[],
                user="0",
                stdin_open=True,
                ports=[publish] if publish else None,
                labels=ownership.labels(session, seconds),
                host_config=api.create_host_config(
                    network_mode=network,
                    binds=[*tools.binds, *binds],
                    port_bindings={publish: ("127.0.0.1",)} if publish else None,
                    extra_hosts=dict(hosts) if hosts else None,
                    # Where the engine maps users, the host's network is for the host's users.
                    userns_mode="host" if network == "host" else None,
                    mem_limit=MEMORY_BYTES,
                    pids_limit=PIDS,
                    read_only=True,
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges"],
                    log_config=LogConfig(type="none"),
                ),
            )
        self.id: str = created["Id"]
        self._frames: AttachStream | None = None
        try:
            with classification.translated(f"starting the container of {script}"):
                attach = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
                self._frames = AttachStream(api.attach_socket(self.id, params=attach))
                api.start(self.id)
            if config is not None:
                self.tell(config)
        except BaseException:
            self.close()
            raise

    def tell(self, what: Mapping[str, Any]) -> None:
        """Write a document to its stdin. Raises InfraError."""
        assert self._frames is not None
        try:
            self._frames.send(json.dumps(what).encode() + b"\n", START_SECONDS)
        except BrokenPipeError as error:
            raise self._over() from error

    def hear(self, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The next document from its stdout. Raises IsolationError where none comes."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise IsolationError(f"{self._script} said nothing for {seconds:g} s")
            if not self._receive(left):
                raise self._over()
        line, _, self._pending = self._pending.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def heard(self) -> list[dict[str, Any]]:
        """All that it said and nobody has heard yet."""
        with contextlib.suppress(InfraError):
            while self._receive(0.001):
                pass
        *lines, self._pending = self._pending.split(b"\n")
        return [json.loads(line) for line in lines]

    def port(self, inner: int) -> int:
        """The host's port that `inner` is published on. Raises InfraError."""
        with classification.translated("asking for a port"):
            bound = self._engine.api.port(self.id, inner)
        if not bound:
            raise IsolationError(f"{self._script}: the engine published no port")
        return int(bound[0]["HostPort"])

    def close(self) -> None:
        """Remove it. Raises InfraError."""
        if self._frames:
            with contextlib.suppress(OSError):
                self._frames.close()
        self._engine.remove(self.id)

    def _receive(self, seconds: float) -> bool:
        """Take in what has come; False at the end, or where nothing came."""
        assert self._frames is not None
        parts = self._frames.read(seconds)
        for stream, part in parts or ():
            if stream == STDERR:
                self._said = (self._said + part)[-4000:]
            else:
                self._pending += part
        if len(self._pending) > LINE_BYTES:
            raise IsolationError(f"{self._script} says too much")
        return bool(parts)

    def _over(self) -> IsolationError:
        # Of a traceback the last line says what it was.
        said = self._said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return IsolationError(f"{self._script} has ended: {said[:1000] or 'it said nothing'}")
