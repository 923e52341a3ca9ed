"""Commands in a running container, by the engine's exec API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskgate.harness.base.errors import EngineTimeout
from taskgate.harness.engine import classification
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.connection import Connection

STATUS_SECONDS = 10.0
POLL_SECONDS = 0.02


def exit_status(
    inspect: Callable[[], Mapping[str, Any]], what: str = "a command", *, seconds: float = STATUS_SECONDS
) -> int:
    """The exit status of an exec, which the engine may have only a moment after the stream's end.

    `inspect` returns what `GET /exec/ID/json` answers. Raises EngineTimeout after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        if (status := ended_with(inspect())) is not None:
            return status
        if time.monotonic() >= deadline:
            raise EngineTimeout(f"the engine does not report the exit status of {what}")
        time.sleep(POLL_SECONDS)


def ended_with(about: Mapping[str, Any]) -> int | None:
    """The exit status in an exec's description; None while it runs."""
    if about["Running"] or about.get("ExitCode") is None:
        return None
    return int(about["ExitCode"])


class Exec:
    """A started command. `id` is the engine's, `stream` carries its stdin, stdout and stderr, `what` names it in error
    messages."""

    def __init__(self, api: Any, exec_id: str, stream: AttachStream, what: str) -> None:
        self._api, self.id, self._what, self.stream = api, exec_id, what, stream

    def poll(self) -> int | None:
        """Its exit status; None while it runs. Raises InfraError: EngineTimeout if the engine hangs."""
        return ended_with(self._inspect())

    def status(self) -> int:
        """Its exit status, once its stream has ended. Raises InfraError."""
        return exit_status(self._inspect, self._what)

    def close(self) -> None:
        """Close the stream. A command that has not ended continues."""
        with contextlib.suppress(OSError):
            self.stream.close()

    def _inspect(self) -> Mapping[str, Any]:
        with classification.translated(f"asking for the status of {self._what}"):
            return dict(self._api.exec_inspect(self.id))


class Execs(Connection):
    """The exec API."""

    def exec_status(self, exec_id: str) -> int | None:
        """The exit status of an exec that another process may have started; None while it runs. Raises InfraError."""
        with classification.translated("asking for the status of a command"):
            return ended_with(self.api.exec_inspect(exec_id))

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        what: str = "a command",
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str | None = None,
        stdin: bool = False,
    ) -> Exec:
        """Start `argv` in a running container; `user` empty: the container's own. Raises InfraError."""
        with classification.translated(f"starting {what}"):
            exec_id = self.api.exec_create(
                container,
                list(argv),
                stdin=stdin,
                user=user,
                environment=[f"{name}={value}" for name, value in (environment or {}).items()] or None,
                workdir=workdir,
            )["Id"]
            return Exec(self.api, exec_id, AttachStream(self.api.exec_start(exec_id, socket=True)), what)
