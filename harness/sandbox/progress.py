"""Large is not hung: whether a command whose deadline has passed is still at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 1.0
# What a command that polls and waits takes is less.
BUSY_SHARE = 0.02
# A command that makes progress is given so many times its check's deadline.
PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Activity:
    """What the container's processes have used so far: nanoseconds of CPU time, bytes read from disks."""

    cpu: int
    read: int


class Progress:
    """Grants a command more time, a window at a time, as long as it makes progress and `until` is not reached.

    `until` is a time of `time.monotonic`. `busy`: it made progress in the last window. None of what `measure` returns
    comes from the image.
    """

    def __init__(self, measure: Callable[[], Activity | None], until: float) -> None:
        self.busy = False
        self._measure, self._until = measure, until
        self._last: Activity | None = None

    def more(self) -> float:
        """Seconds to go on; 0 where the command stands still or has had its time. Raises InfraError."""
        before, self._last = self._last, self._measure()
        if self._last is None:
            self.busy = False
            return 0.0
        if before is None:
            return WINDOW_SECONDS
        used = self._last.cpu - before.cpu
        self.busy = used >= BUSY_SHARE * WINDOW_SECONDS * 1e9 or self._last.read > before.read
        return WINDOW_SECONDS if self.busy and time.monotonic() < self._until else 0.0
