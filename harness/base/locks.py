"""Locks between the processes of one host: each image is pulled once, and only so many at a time."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout


def folder(engine_url: str) -> Path:
    """The folder in which all processes of this host keep files about one engine."""
    path = platformdirs.user_cache_path("taskgate") / "locks" / _name(engine_url)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def pull_slot(engine_url: str, image: str, slots: int) -> Iterator[None]:
    """Held while `image` is pulled into the engine; at most `slots` pulls run at once on this host."""
    locks = folder(engine_url)
    with FileLock(locks / f"{_name(image)}.lock"), contextlib.ExitStack() as held:
        while True:
            for number in range(slots):
                with contextlib.suppress(Timeout):
                    held.enter_context(FileLock(locks / f"slot-{number}.lock", blocking=False))
                    yield
                    return
            time.sleep(0.1)


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
