"""Pulling: the next image while this one is checked, within the disk that a run may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from taskgate.harness.base.errors import InfraError, NoSpace
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.image_request import ImageRequest


class Pulls:
    """One worker's. `connect` makes a client for the pull ahead: an engine's is not to be shared by threads."""

    def __init__(self, connect: Callable[[], Engine], budget: DiskBudget | None) -> None:
        self._connect, self._budget = connect, budget
        self._ahead: dict[tuple[str, str], Future[Image | None]] = {}

    def expect(self, request: ImageRequest) -> None:
        """It comes next: its image is pulled from now on, if there is room for it."""
        if request.pull == "never" or request.key in self._ahead:
            return
        future = self._ahead[request.key] = Future()
        # A daemon: who stops a run need not wait for a pull.
        threading.Thread(target=self._early, args=(request, future), name="taskgate-pull", daemon=True).start()

    def image(self, engine: Engine, request: ImageRequest) -> Image:
        """The task's image, pulled if its `pull` says so. Raises ImageNotFound, PlatformUnavailable, InfraError."""
        coming = self._ahead.pop(request.key, None)
        return (coming and coming.result()) or self._fetch(engine, request, wait=True) or engine.image(request)

    def release(self, request: ImageRequest) -> None:
        """It is judged, and its image needed no more. Raises InfraError."""
        if self._budget:
            self._budget.release(request.image, again=any(image == request.image for image, _ in self._ahead))

    def _early(self, request: ImageRequest, future: Future[Image | None]) -> None:
        """Ends with None where the image is to be asked for when it is needed."""
        try:
            engine = self._connect()
            try:
                future.set_result(self._fetch(engine, request, wait=False))
            finally:
                engine.close()
        except InfraError:
            # What refuses now is asked again in good time, with the back-off that it is due.
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    def _fetch(self, engine: Engine, request: ImageRequest, *, wait: bool) -> Image | None:
        """None where there is no room for it, and nobody would `wait`."""
        if self._budget is None or request.pull == "never":
            return engine.image(request)
        # First said, then looked: what is in use is not removed.
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
