"""A program in a task's container, its output streamed into the task's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from taskgate.harness.base.files import trouble
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container

TICK_SECONDS = 1.0
SILENCE_SECONDS = 30.0


class OutputLog(Protocol):
    """Where a program's output goes: a `LogFile`, or a share of one."""

    path: Path

    def add(self, stream: int, data: bytes) -> None:
        """Write a piece of a stream. Raises OSError."""


class Program:
    """Started by an exec, as the container's user. Its environment is in no container's description."""

    def __init__(
        self,
        engine: Engine,
        container: Container,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        workdir: str,
        log: OutputLog,
    ) -> None:
        """Start it. Raises InfraError."""
        self._log = log
        self._exec = engine.exec(container.id, argv, "the agent", environment=environment, workdir=workdir)

    def follow(self, go_on: Callable[[], bool]) -> bool:
        """Write what it prints to the log until its end, or until `go_on` (asked every second) says no.

        True at the end. Raises EngineUnavailable, EngineTimeout, InfraError, NoSpace (of this host).
        """
        heard = time.monotonic()
        while go_on():
            parts = self._exec.stream.read(TICK_SECONDS)
            if parts is None:
                return True
            try:
                for stream, part in parts:
                    self._log.add(stream, part)
            except OSError as error:
                raise trouble(self._log.path, error) from error
            if parts:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                # Raises where the engine hangs. An agent may be silent for as long as it likes.
                self._exec.poll()
                heard = time.monotonic()
        return False

    def status(self) -> int:
        """Its exit status, once its output has ended. Raises InfraError."""
        return self._exec.status()

    def poll(self) -> int | None:
        """Its exit status; None while it runs. Raises InfraError."""
        return self._exec.poll()

    def close(self) -> None:
        self._exec.close()
