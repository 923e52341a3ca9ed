"""A small container of nothing but a runtime's Python, in which one of taskgate's own scripts runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from taskgate.harness.base.errors import IsolationError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.attach_stream import STDERR, AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation import scripts
from taskgate.harness.sandbox.isolation.tools import Tools

START_SECONDS = 60.0
MEMORY_BYTES = 256 << 20
PIDS = 128
LINE_BYTES = 4 << 20
ERROR_BYTES = 4000


class Sidecar:
    """Exchanges JSON documents, one a line, over its stdin and stdout. It ends when its stdin does: at the latest with
    the process that made it."""

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
        """Start `script` (a file of this folder) and send it `config`. Raises InfraError.

        `publish`: a port that gets one of the host's loopback interface.
        """
        self._engine, self._script, self._pending, self._errors = engine, script, b"", b""
        self._frames: AttachStream | None = None
        self.id = engine.create_container(
            tools.image,
            [tools.python, "-I", "-c", scripts.program(script)],
            labels=ownership.labels(session, seconds),
            doing=f"creating the container of {script}",
            user="0",
            stdin=True,
            publish=publish,
            logged=False,
            network_mode=network,
            binds=[*tools.binds, *binds],
            extra_hosts=dict(hosts) if hosts else None,
            # Where the engine maps users, the host's network is for the host's users.
            userns_mode="host" if network == "host" else None,
            mem_limit=MEMORY_BYTES,
            pids_limit=PIDS,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        try:
            self._start(config)
        except BaseException:
            self.close()
            raise

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a document to its stdin. Raises InfraError."""
        assert self._frames is not None
        try:
            self._frames.send(json.dumps(message).encode() + b"\n", START_SECONDS)
        except BrokenPipeError as error:
            raise self._ended() from error

    def receive(self, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The next document from its stdout. Raises IsolationError where none comes."""
        deadline = time.monotonic() + seconds
        while True:
            if messages := self.poll(max(deadline - time.monotonic(), 0), 1):
                return messages[0]
            if time.monotonic() >= deadline:
                raise IsolationError(f"{self._script} sent nothing for {seconds:g} s")

    def poll(self, seconds: float, limit: int | None = None) -> list[dict[str, Any]]:
        """The documents that have come, at most `limit`; where there are none, wait for up to `seconds`.

        Raises IsolationError once it has ended and all is read, EngineUnavailable.
        """
        if b"\n" not in self._pending:
            self._read(seconds)
        lines = self._pending.split(b"\n")
        taken = lines[:-1][:limit]
        self._pending = b"\n".join(lines[len(taken) :])
        return [json.loads(line) for line in taken]

    def port(self, inner: int) -> int:
        """The host's port that `inner` is published on. Raises InfraError."""
        port = self._engine.published_port(self.id, inner)
        if port is None:
            raise IsolationError(f"{self._script}: the engine published no port")
        return port

    def hang_up(self) -> None:
        """End its stdin, and with it the script; whoever waits for a document gets an error."""
        if self._frames:
            with contextlib.suppress(OSError):
                self._frames.close()

    def close(self) -> None:
        """Remove it. Raises InfraError."""
        self.hang_up()
        self._engine.remove(self.id)

    def _start(self, config: Mapping[str, Any] | None) -> None:
        self._frames = self._engine.attach(self.id)
        self._engine.start_container(self.id, doing=f"starting the container of {self._script}")
        if config is not None:
            self.send(config)

    def _read(self, seconds: float) -> None:
        """Take in what comes until the first whole line. Raises IsolationError at the end, EngineUnavailable."""
        assert self._frames is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            parts = self._frames.read(max(deadline - time.monotonic(), 0.001))
            if parts is None:
                raise self._ended()
            for stream, part in parts:
                if stream == STDERR:
                    self._errors = (self._errors + part)[-ERROR_BYTES:]
                else:
                    self._pending += part
            if len(self._pending) > LINE_BYTES:
                raise IsolationError(f"{self._script} sent a line of more than {LINE_BYTES} bytes")
            if time.monotonic() >= deadline:
                return

    def _ended(self) -> IsolationError:
        # The last line of a traceback is its exception.
        error = self._errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return IsolationError(f"{self._script} has ended: {error[:1000] or 'without a message'}")
