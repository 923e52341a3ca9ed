"""When each engine last answered, and which did not: one that answered a moment ago may be restarting, another may not
exist at all."""

from __future__ import annotations

import contextlib
import time

from taskgate.harness.base import locks
from taskgate.harness.base.errors import EngineUnavailable
from taskgate.harness.engine.discovery import sockets

RECENT_SECONDS = 60.0
# An engine that is not waited for is tried again after this time, not for each of ten thousand images.
AGAIN_SECONDS = 5.0
_FILE = "answered"
# Of this process, which may have been connected for hours.
_answered: set[str] = set()
# Of this process: why the engine at a URL could not be reached, and until when it is not tried again.
_unreachable: dict[str, tuple[EngineUnavailable, float]] = {}


def note(url: str) -> None:
    """The engine at `url` has just answered."""
    _answered.add(url)
    # Without a cache folder only this process knows it.
    with contextlib.suppress(OSError):
        (locks.folder(url) / _FILE).touch()


def note_unreachable(url: str, error: EngineUnavailable) -> None:
    """There is no engine at `url`: it is not tried again for AGAIN_SECONDS."""
    _unreachable[url] = error, time.monotonic() + AGAIN_SECONDS


def check_reachable(url: str) -> None:
    """Raises the EngineUnavailable of the last try, if that was a moment ago."""
    error, until = _unreachable.get(url, (None, 0.0))
    if error and time.monotonic() < until:
        raise error.with_traceback(None)


def is_recent(url: str | None) -> bool:
    """Has it answered this process, or any process of this user within the last minute? None: an engine at any usual
    socket."""
    urls = [url] if url else [f"unix://{path}" for path in sockets()]
    return any(_is_recent(candidate) for candidate in urls)


def _is_recent(url: str) -> bool:
    if url in _answered:
        return True
    try:
        return time.time() - (locks.folder(url) / _FILE).stat().st_mtime < RECENT_SECONDS
    except OSError:
        return False
