"""A second judgement of an image, started in a container of its own while the first one still waits.

What hangs must hang twice before it is held against an image. Begun this early, the second wait costs next to nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from taskgate.harness.base.errors import InfraError
from taskgate.harness.gate.judge import Judgement

# What is given up is removed within a moment; nobody waits longer for it.
CANCEL_SECONDS = 10.0


class Confirmation:
    """`prepare` opens what a judgement needs, on a client of the engine of its own, and `remove` removes a container by
    its id. Nothing happens before `start`."""

    def __init__(
        self,
        prepare: Callable[[], contextlib.AbstractContextManager[Judgement]],
        remove: Callable[[str], None],
    ) -> None:
        self._prepare, self._remove = prepare, remove
        self._future: Future[Judgement] | None = None
        self._judgement: Judgement | None = None
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._future is not None

    def start(self) -> None:
        """Begin it, once. Returns at once."""
        if self._future is None:
            self._future = Future()
            self._thread = threading.Thread(
                target=self._run, args=(self._future,), name="taskgate-confirm", daemon=True
            )
            self._thread.start()

    def result(self) -> Judgement:
        """The second judgement. Raises InfraError."""
        assert self._future
        return self._future.result()

    def cancel(self) -> None:
        """It is not needed: end it and remove its container."""
        self._cancelled.set()
        if self._thread is None:
            return
        removed, deadline = set[str](), time.monotonic() + CANCEL_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            # Its container may only be created now. The session's end removes what is left.
            container = self._judgement.sandbox.container_id if self._judgement else None
            if container and container not in removed:
                removed.add(container)
                with contextlib.suppress(InfraError):
                    self._remove(container)
            self._thread.join(0.1)

    def _run(self, future: Future[Judgement]) -> None:
        try:
            with self._prepare() as judgement:
                judgement.cancelled = self._cancelled
                self._judgement = judgement
                judgement.run()
            future.set_result(judgement)
        except BaseException as error:
            future.set_exception(error)
