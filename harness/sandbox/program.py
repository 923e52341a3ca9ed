"""A program in a task's container, its output streamed into the task's log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from taskgate.harness.base.errors import EngineTimeout
from taskgate.harness.base.files import trouble
from taskgate.harness.engine import classification
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.log_file import LogFile

TICK_SECONDS = 1.0
SILENCE_SECONDS = 30.0
STATUS_SECONDS = 10.0


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
        log: LogFile,
    ) -> None:
        """Start it. Raises InfraError."""
        self._api, self._log = engine.api, log
        with classification.translated("starting the agent"):
            self._id = self._api.exec_create(
                container.id,
                list(argv),
                environment=[f"{name}={value}" for name, value in environment.items()],
                workdir=workdir,
            )["Id"]
            self._frames = AttachStream(self._api.exec_start(self._id, socket=True))

    def follow(self, go_on: Callable[[], bool]) -> bool:
        """Write what it prints to the log until its end, or until `go_on` (asked every second) says no.

        True at the end. Raises EngineUnavailable, EngineTimeout, InfraError, NoSpace (of this host).
        """
        heard = time.monotonic()
        while go_on():
            parts = self._frames.read(TICK_SECONDS)
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
                self.status(wait=False)
                heard = time.monotonic()
        return False

    def status(self, *, wait: bool = True) -> int | None:
        """Its exit status; None while it runs. Raises InfraError."""
        deadline = time.monotonic() + STATUS_SECONDS
        while True:
            with classification.translated("asking for the agent's status"):
                about = self._api.exec_inspect(self._id)
            if not about["Running"] and about.get("ExitCode") is not None:
                return int(about["ExitCode"])
            if not wait:
                return None
            if time.monotonic() > deadline:
                raise EngineTimeout("the engine does not say how the agent ended")
            time.sleep(0.02)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._frames.close()
