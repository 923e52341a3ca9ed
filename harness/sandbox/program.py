"""A program in a task's container, its output streamed into the task's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from taskgate.harness.base.errors import InfraError
from taskgate.harness.base.files import trouble
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container

TICK_SECONDS = 1.0
# Between two questions whether it still runs. Something that it started may hold its output open for longer.
POLL_SECONDS = 5.0
# How long those questions may stay without an answer.
PATIENCE_SECONDS = 120.0
# For what it printed last.
DRAIN_SECONDS = 2.0


class OutputLog(Protocol):
    """Where a program's output goes: a `LogFile`, or a share of one."""

    path: Path

    def add(self, stream: int, data: bytes) -> None:
        """Write a piece of a stream. Raises OSError."""


class Program:
    """Started by an exec. Its environment is in no container's description."""

    def __init__(
        self,
        engine: Engine,
        container: Container,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        workdir: str,
        log: OutputLog,
        user: str = "",
    ) -> None:
        """Start it; `user` empty: the container's own. Raises InfraError."""
        self._log = log
        self._exec = engine.exec(container.id, argv, "the agent", environment=environment, user=user, workdir=workdir)

    @property
    def id(self) -> str:
        """The engine's id of the exec."""
        return self._exec.id

    def follow(self, go_on: Callable[[], bool]) -> bool:
        """Write what it prints to the log until its end, or until `go_on` (asked every second) says no.

        True at the end: of its output, or of the program itself where others hold its output open.
        Raises EngineUnavailable, EngineTimeout, InfraError, NoSpace (of this host).
        """
        polled = answered = time.monotonic()
        while go_on():
            if not self._copy(TICK_SECONDS):
                return True
            if time.monotonic() - polled < POLL_SECONDS:
                continue
            try:
                if self.poll() is not None:
                    self._drain()
                    return True
                answered = time.monotonic()
            except InfraError:
                # An agent of many hours must not end because one question was not answered.
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
            polled = time.monotonic()
        return False

    def status(self) -> int:
        """Its exit status, once its output has ended. Raises InfraError."""
        return self._exec.status()

    def poll(self) -> int | None:
        """Its exit status; None while it runs. Raises InfraError."""
        return self._exec.poll()

    def close(self) -> None:
        self._exec.close()

    def _copy(self, seconds: float) -> bool:
        """Wait for output and write it to the log. False at its end."""
        parts = self._exec.stream.read(seconds)
        if parts is None:
            return False
        try:
            for stream, part in parts:
                self._log.add(stream, part)
        except OSError as error:
            raise trouble(self._log.path, error) from error
        return True

    def _drain(self) -> None:
        """It has ended: what it printed last is on its way."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (left := deadline - time.monotonic()) > 0 and self._copy(min(left, 0.3)):
            pass
