"""The images that a run's tasks need on one engine: pulled while agents work, kept while they are needed, and removed
again where the disk is bounded."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable

import tenacity

from taskgate.harness.base.errors import ImageNotFound, InfraError, NoSpace, PlatformUnavailable
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.image_request import ImageRequest

TRIES, MAX_WAIT_SECONDS = 6, 20.0
POLL_SECONDS = 0.2


class TaskImages:
    """Of one engine. Thread-safe: all workers of a run share it.

    `budget` makes the disk budget for an engine, or None where the disk is not bounded.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        budget: Callable[[Engine], DiskBudget | None],
        stopping: threading.Event,
    ) -> None:
        self._connect, self._make_budget, self._stopping = connect, budget, stopping
        self._lock = threading.Lock()
        # How many tasks at work need an image, and have it; what was pulled for a task that has not begun.
        self._needed: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._ahead: set[str] = set()
        self._pulling = threading.Semaphore(1)
        self._budget: DiskBudget | None = None
        self._budget_known = False

    def acquire(self, engine: Engine, request: ImageRequest) -> None:
        """Have the image, and keep it until `release`. What it means that there is none is the gate's to say.

        Raises InfraError where it can't be pulled, after tries with back-off.
        """
        budget = self._budget_of(engine)
        with self._lock:
            self._needed[request.image] += 1
            self._ahead.discard(request.image)
        if request.pull == "never":
            return
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_when_event_set(self._stopping),
            sleep=tenacity.sleep_using_event(self._stopping),
            wait=tenacity.wait_exponential(multiplier=0.5, max=MAX_WAIT_SECONDS) + tenacity.wait_random(0, 0.5),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, InfraError) and error.transient),
            reraise=True,
        )
        with contextlib.suppress(ImageNotFound, PlatformUnavailable):
            retrying(self._fetch, engine, request, budget, True)
            with self._lock:
                self._held[request.image] += 1

    def release(self, request: ImageRequest) -> None:
        """A task that needed the image has ended."""
        with self._lock:
            self._needed[request.image] -= 1
            self._held[request.image] = max(0, self._held[request.image] - 1)
            still = self._needed[request.image] > 0 or request.image in self._ahead
        if self._budget:
            with contextlib.suppress(InfraError):
                self._budget.release(request.image, again=still)

    def expect(self, request: ImageRequest) -> None:
        """A task on this image comes next: pull it meanwhile, if there is room for it and nothing else is pulled."""
        with self._lock:
            if request.pull != "missing" or request.image in self._ahead or self._needed[request.image]:
                return
        if self._pulling.acquire(blocking=False):
            # A daemon: who stops a run need not wait for a pull.
            threading.Thread(target=self._early, args=(request,), name="taskgate-pull", daemon=True).start()

    def close(self) -> None:
        """Nothing is needed any more."""
        for image in list(self._ahead):
            if self._budget:
                with contextlib.suppress(InfraError):
                    self._budget.release(image)

    def _early(self, request: ImageRequest) -> None:
        try:
            engine = self._connect()
            try:
                with self._lock:
                    self._ahead.add(request.image)
                self._fetch(engine, request, self._budget_of(engine), False)
            finally:
                engine.close()
        except (InfraError, ImageNotFound, PlatformUnavailable):
            # It is asked for again in good time, with the back-off that it is due.
            with self._lock:
                self._ahead.discard(request.image)
        finally:
            self._pulling.release()

    def _budget_of(self, engine: Engine) -> DiskBudget | None:
        with self._lock:
            if not self._budget_known:
                self._budget, self._budget_known = self._make_budget(engine), True
            return self._budget

    def _fetch(self, engine: Engine, request: ImageRequest, budget: DiskBudget | None, wait: bool) -> None:
        """Raises InfraError, ImageNotFound, PlatformUnavailable."""
        if budget is None:
            engine.image(request)
            return
        # First noted, then looked: what is in use is not removed.
        budget.use(request.image)
        if engine.local(request.image) and request.pull != "always":
            return
        # Where nobody else will ever make room, one image is more than the budget, and is pulled all the same.
        while not budget.make_room(engine, wait=wait and self._alone(request.image)):
            if not wait or self._stopping.wait(POLL_SECONDS):
                return
        with budget.pulling(engine, request.image):
            try:
                engine.image(request)
            except NoSpace:
                budget.remove_all(engine)
                engine.image(request)

    def _alone(self, image: str) -> bool:
        """Does no other task at work hold an image, which it would give back? One that waits itself never will."""
        with self._lock:
            return not any(count > 0 for other, count in self._held.items() if other != image)
