"""A worker's engine, and what brings an image into a container there: pulls, pause containers, runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskgate.harness.base.errors import BundleError, UsageError
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.pulls import Pulls
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.pause import Pauses
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """`size`: bytes that pulled images may take; `wanted`: how many tasks there are on each image."""

    size: int
    wanted: Mapping[str, int]


class ImageProvider:
    """`connect` opens a client of the engine: at first use, and again after the engine was away."""

    def __init__(self, connect: Callable[[], Engine], session: str, disk: DiskLimit | None = None) -> None:
        self.connect, self.store = connect, Store()
        self._session, self._disk = session, disk
        self._engine: Engine | None = None
        self._pauses: Pauses | None = None
        self._pulls: Pulls | None = None
        self._deliveries: dict[tuple[Runtime, str], Delivery] = {}

    @property
    def engine(self) -> Engine:
        """The engine, connected on first use. Raises EngineUnavailable."""
        if self._engine is None:
            self._engine = self.connect()
            self._pauses = Pauses(self._engine, self._session)
            self._pulls = Pulls(self.connect, self._budget(self._engine))
        return self._engine

    @property
    def pauses(self) -> Pauses | None:
        """The pause containers on the engine; None while it is not connected."""
        return self._pauses

    def image(self, request: ImageRequest) -> Image:
        """The image, pulled if need be. Raises ImageNotFound and others, see Pulls."""
        engine = self.engine
        assert self._pulls
        return self._pulls.image(engine, request)

    def expect(self, request: ImageRequest) -> None:
        """It comes next: pull it meanwhile."""
        if self._pulls:
            self._pulls.expect(request)

    def release(self, request: ImageRequest) -> None:
        """It is judged, and its image needed no more. Raises InfraError."""
        if self._pulls:
            self._pulls.release(request)

    def delivery(self, task: Task) -> Delivery | None:
        """The task's runtime, on the engine and ready; None where it has none. Raises InfraError."""
        if task.runtime is None:
            return None
        key = (task.runtime, task.platform)
        if key not in self._deliveries:
            try:
                bundle = sources.resolve(self.engine, self.store, task.runtime, task.platform)
            except UsageError as error:
                # The controller has reported it already, unless the engine was away then.
                raise BundleError(str(error)) from error
            self._deliveries[key] = Delivery(self.engine, self.store, bundle, task.runtime.mode)
        return self._deliveries[key]

    def forget_deliveries(self) -> None:
        """Have runtimes brought to the engine anew: one was removed there."""
        self._deliveries.clear()

    def disconnect(self) -> None:
        """Close the client: the engine may come back as another one, or somewhere else."""
        self._deliveries.clear()
        if self._pauses:
            self._pauses.close()
            self._pauses = None
        if self._engine:
            self._engine.close()
            self._engine = None

    def _budget(self, engine: Engine) -> DiskBudget | None:
        if self._disk is None:
            return None
        return DiskBudget(engine.url, self._disk.size, self._disk.wanted, self._session)
