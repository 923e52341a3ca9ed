"""Locks between the processes of one host: an image is pulled once, and not too many at a time."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout


def folder(engine_url: str) -> Path:
    """Where this host's processes keep what concerns one engine."""
    found = platformdirs.user_cache_path("taskgate") / "locks" / _name(engine_url)
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextlib.contextmanager
def pull_slot(engine_url: str, image: str, slots: int) -> Iterator[None]:
    """Held while `image` is pulled into the engine; at most `slots` pulls run at once on this host."""
    where = folder(engine_url)
    with FileLock(where / f"{_name(image)}.lock"), contextlib.ExitStack() as held:
        while True:
            for number in range(slots):
                with contextlib.suppress(Timeout):
                    held.enter_context(FileLock(where / f"slot-{number}.lock", blocking=False))
                    yield
                    return
            time.sleep(0.1)


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
