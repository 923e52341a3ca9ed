"""One engine as a run uses it: gates to borrow, canaries to share, and not too many starts at once."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import reaper
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.isolation.tools import Tools


class EnginePool:
    """`url` None: the engine that is found. `gate` makes a gate that works through `connect`, with a shared prover.

    A hundred agents may run at once, but what starts and what is judged is timed: more at once than the host has
    processors for would look like slow images.
    """

    def __init__(
        self, url: str | None, session: str, jobs: int, gate: Callable[[Callable[[], Engine], Prover], Gate]
    ) -> None:
        self.url, self._session = url, session
        slots = min(jobs, 2 * (os.cpu_count() or 1))
        self.starting = threading.Semaphore(slots)
        self.prover = Prover(self.connect, self._tools, session)
        self._gates: queue.Queue[Gate] = queue.Queue()
        self._all = [gate(self.connect, self.prover) for _ in range(slots)]
        for one in self._all:
            self._gates.put(one)

    def connect(self) -> Engine:
        """A client of the engine. Raises EngineUnavailable."""
        # A run lasts for days, and images are rebuilt meanwhile.
        return Engine(self.url, listing=False)

    def _tools(self) -> Tools:
        engine = self.connect()
        try:
            return Tools(engine, Store())
        finally:
            engine.close()

    @contextlib.contextmanager
    def gate(self) -> Iterator[Gate]:
        """A gate for one judgement."""
        taken = self._gates.get()
        try:
            yield taken
        finally:
            self._gates.put(taken)

    def reap(self, session: str | None) -> None:
        """Remove what killed runs left, and what `session` has. An engine that is away has nothing to remove."""
        with contextlib.suppress(InfraError):
            engine = self.connect()
            try:
                reaper.reap(engine, session)
            finally:
                engine.close()

    def close(self) -> None:
        with contextlib.suppress(InfraError):
            self.prover.close()
        for one in self._all:
            one.close()
        self.reap(self._session)
