"""The engines of a run: which of them works on the next task, and which are left alone for a while."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError, NoSpace
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine import classification, reaper
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.gate.gate import Gate
from taskgate.harness.runner.task_images import TaskImages
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.isolation.tools import Tools

BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 60.0

MakeGate = Callable[[Callable[[], Engine], Prover], Gate]


class PooledEngine:
    """One engine: gates to borrow, canaries to share, not too many starts at once, and how it does.

    `url` None: the engine that is found. A hundred agents may run at once, but what starts and what is judged is timed:
    more at once than the host has processors for would look like slow images.
    """

    def __init__(
        self,
        url: str | None,
        session: str,
        jobs: int,
        gate: MakeGate,
        *,
        budget: Callable[[Engine], DiskBudget | None] = lambda engine: None,
        stopping: threading.Event | None = None,
    ) -> None:
        """`budget`: the disk budget of images on an engine; None: it is not bounded."""
        self.url, self._session = url, session
        self.images = TaskImages(self.connect, budget, stopping or threading.Event())
        self.name = redacted(url) if url else "the engine"
        slots = min(jobs, 2 * (os.cpu_count() or 1))
        self.starting = threading.Semaphore(slots)
        self.prover = Prover(self.connect, self._tools, session)
        self.active = 0
        self._gates: queue.Queue[Gate] = queue.Queue()
        self._all = [gate(self.connect, self.prover) for _ in range(slots)]
        for entry in self._all:
            self._gates.put(entry)
        self._failures, self._resting_until = 0, 0.0

    def connect(self) -> Engine:
        """A client of the engine. Raises EngineUnavailable."""
        # A run lasts for days, and images are rebuilt meanwhile.
        return Engine(self.url, listing=False)

    @contextlib.contextmanager
    def gate(self) -> Iterator[Gate]:
        """A gate for one judgement."""
        gate = self._gates.get()
        try:
            yield gate
        finally:
            self._gates.put(gate)

    def alive(self) -> bool:
        """Does it answer now?"""
        try:
            engine = self.connect()
        except InfraError:
            return False
        engine.close()
        return True

    def reap(self, session: str | None) -> None:
        """Remove what killed runs left, and what `session` has. An engine that is away has nothing to remove."""
        with contextlib.suppress(InfraError):
            engine = self.connect()
            try:
                reaper.reap(engine, session)
            finally:
                engine.close()

    def close(self) -> None:
        self.images.close()
        with contextlib.suppress(InfraError):
            self.prover.close()
        for gate in self._all:
            gate.close()
        self.reap(self._session)

    # How it does. Guarded by the pool's lock.

    @property
    def healthy(self) -> bool:
        return self._failures == 0

    def may_work(self, now: float) -> bool:
        """A healthy one may. One that failed gets a single task once its rest is over, and more if that goes well."""
        return self.healthy or (now >= self._resting_until and self.active == 0)

    def failed(self) -> None:
        self._failures += 1
        rest = min(BACKOFF_SECONDS * 2 ** (self._failures - 1), MAX_BACKOFF_SECONDS)
        self._resting_until = time.monotonic() + rest

    def succeeded(self) -> None:
        self._failures, self._resting_until = 0, 0.0

    def _tools(self) -> Tools:
        engine = self.connect()
        try:
            return Tools(engine, Store())
        finally:
            engine.close()


class EnginePool:
    """Hands out the engine with the least work that is fit for more. Thread-safe."""

    def __init__(self, engines: Sequence[PooledEngine]) -> None:
        self.engines = list(engines)
        self._changed = threading.Condition()

    def acquire(self, avoid: frozenset[PooledEngine], stopping: threading.Event) -> PooledEngine | None:
        """An engine for the next task, not one of those to `avoid` as long as there are others; None once the run is
        being stopped. Where all are resting, the one that has rested for longest."""
        with self._changed:
            while not stopping.is_set():
                candidates = [engine for engine in self.engines if engine not in avoid] or self.engines
                now = time.monotonic()
                fit = [engine for engine in candidates if engine.may_work(now)]
                if not fit and not any(engine.healthy or engine.active for engine in self.engines):
                    # Waiting for the first that answers again is the gate's to do, and to give up.
                    fit = [min(candidates, key=lambda engine: engine._resting_until)]
                if fit:
                    engine = min(fit, key=lambda engine: (engine.active, self.engines.index(engine)))
                    engine.active += 1
                    return engine
                self._changed.wait(0.2)
        return None

    def release(self, engine: PooledEngine, *, fault: bool) -> None:
        """The task has left the engine; `fault`: the engine failed it."""
        with self._changed:
            engine.active -= 1
            if fault:
                engine.failed()
            else:
                engine.succeeded()
            self._changed.notify_all()

    def answered(self, engine: PooledEngine) -> None:
        """The engine has started an agent: it is fit for more."""
        with self._changed:
            engine.succeeded()
            self._changed.notify_all()

    def others(self, tried: frozenset[PooledEngine]) -> bool:
        """Is there an engine that has not been tried?"""
        return any(engine not in tried for engine in self.engines)

    def first(self) -> PooledEngine:
        """The first engine that answers; the first of all where none does."""
        return next((engine for engine in self.engines if engine.alive()), self.engines[0])

    def reap(self, session: str | None) -> None:
        for engine in self.engines:
            engine.reap(session)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()


def is_engine_fault(error: BaseException) -> bool:
    """Is the engine itself at fault, so that another one may do better? A full disk of this host is not."""
    if isinstance(error, (EngineUnavailable, EngineTimeout)):
        return True
    return isinstance(error, NoSpace) and not isinstance(error.__cause__, OSError)


def blames_engine(reason: str | None) -> bool:
    """Does a verdict's reason say that the engine's disk is full?"""
    return bool(reason and classification.NO_SPACE.search(reason))
