"""How another process ends a run: by a file in the run's folder, which works from any host that shares it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.runner.results import RUNNING, Results

DRAIN, STOP = "drain", "stop"


def ask(results: Results, *, now: bool) -> None:
    """Ask the run at work in a folder to start nothing new or, with `now`, to end its agents too. Raises UsageError
    where there is none, InfraError."""
    if not results.busy():
        raise UsageError(f"no run is at work in {results.out}", field="OUT")
    path = results.out / RUNNING / (STOP if now else DRAIN)
    try:
        path.touch()
    except OSError as error:
        raise files.trouble(path, error) from error


def obey(results: Results, draining: threading.Event, stopping: threading.Event) -> None:
    """Set what was asked for."""
    for name, event in ((DRAIN, draining), (STOP, stopping)):
        if not event.is_set() and _taken(results.out / RUNNING / name):
            event.set()


def _taken(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False
