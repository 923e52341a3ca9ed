"""Locks between the processes of one host: an image is pulled once, and not too many at a time."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

import platformdirs
from filelock import FileLock, Timeout


@contextlib.contextmanager
def pull_slot(engine_url: str, image: str, slots: int) -> Iterator[None]:
    """Held while `image` is pulled into the engine; at most `slots` pulls run at once on this host."""
    folder = platformdirs.user_cache_path("taskgate") / "locks" / _name(engine_url)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{_name(image)}.lock"), contextlib.ExitStack() as held:
        while True:
            for number in range(slots):
                with contextlib.suppress(Timeout):
                    held.enter_context(FileLock(folder / f"slot-{number}.lock", blocking=False))
                    yield
                    return
            time.sleep(0.1)


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
