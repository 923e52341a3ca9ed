"""What ends an agent before its own end: the run is stopped, its time is up, or it wrote too much to its disk."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from taskgate.harness.base.errors import InfraError, Interrupted
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.relay_link import RelayLink

# Between two measurements of a container's disk; an engine walks all that was written for each of them.
DISK_SECONDS = 5.0
MAX_DISK_SECONDS = 300.0
# A measurement that takes a second is repeated after twenty at the earliest.
COST_FACTOR = 20.0
MEASURE_SECONDS = 600.0


class Watchdog:
    """Asked every second while an agent works. `stopped` says by which limit the agent was ended.

    `seconds`: its time, from `start` on. `stopping`: the run is being stopped.
    """

    def __init__(self, stopping: threading.Event, seconds: float | None) -> None:
        self._stopping, self._seconds = stopping, seconds
        self._started: float | None = None
        self.link: RelayLink | None = None
        self.disk: DiskWatch | None = None
        self.stopped: str | None = None

    def start(self) -> None:
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._started if self._started is not None else 0.0

    def go_on(self) -> bool:
        """May the agent go on? Raises Interrupted, and InfraError where its relay has ended."""
        if self._stopping.is_set():
            raise Interrupted
        if self.link:
            self.link.check()
        if self._seconds is not None and self.elapsed >= self._seconds:
            self.stopped = f"ran out of its {self._seconds:g} s"
        elif self.disk and self.disk.exceeded:
            self.stopped = f"wrote more than its {self.disk.limit / (1 << 20):.4g} MiB of disk"
        return self.stopped is None


class DiskWatch:
    """Measures what a container has written, in a thread and through a client of its own.

    One measurement may fail, and takes the longer the more was written: neither ends or delays the agent.
    """

    def __init__(self, connect: Callable[[], Engine], container_id: str, limit: int) -> None:
        """`limit`: bytes."""
        self.limit = limit
        self.exceeded = False
        self.measured = False
        self._connect, self._container = connect, container_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="taskgate-disk", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        # A measurement under way ends by itself.
        self._over.set()

    def _watch(self) -> None:
        engine: Engine | None = None
        pause = DISK_SECONDS
        while not self._over.wait(pause):
            begun = time.monotonic()
            try:
                engine = engine or self._connect()
                written = engine.written_bytes(self._container, seconds=MEASURE_SECONDS)
            except InfraError:
                _close(engine)
                engine = None
                pause = min(2 * pause, MAX_DISK_SECONDS)
                continue
            self.measured = True
            pause = max(DISK_SECONDS, COST_FACTOR * (time.monotonic() - begun))
            if written > self.limit:
                self.exceeded = True
                break
        _close(engine)


def _close(engine: Engine | None) -> None:
    if engine:
        with contextlib.suppress(InfraError):
            engine.close()
