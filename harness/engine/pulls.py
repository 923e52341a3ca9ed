"""Pulls: the next image is pulled while the current one is checked, within the disk budget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from taskgate.harness.base.errors import InfraError, NoSpace
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.image_request import ImageRequest


class Pulls:
    """One worker's pulls. `connect` opens a client for a pull ahead: threads do not share one."""

    def __init__(self, connect: Callable[[], Engine], budget: DiskBudget | None) -> None:
        self._connect, self._budget = connect, budget
        self._ahead: dict[tuple[str, str], Future[Image | None]] = {}

    def expect(self, request: ImageRequest) -> None:
        """Start to pull the image that comes next, if there is room for it."""
        if request.pull == "never" or request.key in self._ahead:
            return
        future = self._ahead[request.key] = Future()
        # Not a ThreadPoolExecutor: Python waits for its threads at exit, and a run that is stopped must not wait for a
        # pull. Daemon threads are left behind.
        threading.Thread(target=self._pull_ahead, args=(request, future), name="taskgate-pull", daemon=True).start()

    def image(self, engine: Engine, request: ImageRequest) -> Image:
        """The task's image, pulled if its `pull` says so. Raises ImageNotFound, PlatformUnavailable, InfraError."""
        coming = self._ahead.pop(request.key, None)
        return (coming and coming.result()) or self._fetch(engine, request, wait=True) or engine.image(request)

    def release(self, request: ImageRequest) -> None:
        """The task is judged, and no longer needs its image. Raises InfraError."""
        if self._budget:
            self._budget.release(request.image, again=any(image == request.image for image, _ in self._ahead))

    def _pull_ahead(self, request: ImageRequest, future: Future[Image | None]) -> None:
        """Set the future: the image, or None if it must be pulled when it is needed."""
        try:
            engine = self._connect()
            try:
                future.set_result(self._fetch(engine, request, wait=False))
            finally:
                engine.close()
        except InfraError:
            # It is pulled when it is needed, with the usual back-off.
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    def _fetch(self, engine: Engine, request: ImageRequest, *, wait: bool) -> Image | None:
        """The image; None if there is no room for it and `wait` is False."""
        if self._budget is None or request.pull == "never":
            return engine.image(request)
        # Mark it as used before looking, so that no other process removes it in between.
        self._budget.use(request.image)
        before = engine.local(request.image)
        if before:
            return before if request.pull != "always" else engine.image(request)
        if not self._budget.make_room(engine, wait=wait):
            return None
        with self._budget.pulling(engine, request.image):
            try:
                return engine.image(request)
            except NoSpace:
                self._budget.remove_all(engine)
                return engine.image(request)
