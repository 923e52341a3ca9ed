"""How one bundle gets into the containers of one engine: by a mount, a layer, or a build."""

from __future__ import annotations

import copy
from collections.abc import Callable

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.runtime import dockerfile, layer, volume
from taskgate.harness.runtime.bundle import Bundle, Store


class Delivery:
    """`binds` are the mounts that a container needs, as the engine's host configuration has them."""

    def __init__(self, engine: Engine, store: Store, bundle: Bundle, mode: str) -> None:
        """Have the bundle on the engine. Raises InfraError."""
        self.bundle, self._engine, self._store = bundle, engine, store
        self.mode, self.binds = mode, list[str]()
        if mode in ("auto", "mount"):
            try:
                volume.ensure(engine, bundle, store)
                self.mode, self.binds = "mount", [volume.bind(bundle)]
            except InfraError as error:
                # The probe is the deed: an engine may have no volumes, or its owner may forbid them.
                if mode == "mount" or not _refused(error):
                    raise
                self.mode = "layer"

    def image(self, image: Image) -> str:
        """The id of the image to make the container from. Raises InfraError."""
        if self.mode == "layer":
            return layer.append(self._engine, self.bundle, self._store, image.digest)
        if self.mode == "build":
            return dockerfile.build(self._engine, self.bundle, self._store, image.digest)
        return image.digest

    def through(self, engine: Engine) -> Delivery:
        """The same, by another client of the same engine."""
        other = copy.copy(self)
        other._engine = engine
        return other

    def is_in(self, exists: Callable[[str], bool]) -> bool:
        """Is the runtime where a container has it? `exists` looks into the container."""
        return self.mode != "mount" or exists(f"{self.bundle.prefix}/{volume.MARK}")

    @property
    def fingerprint(self) -> str:
        return f"runtime={self.bundle.digest}@{self.bundle.prefix} by {self.mode}"


def _refused(error: InfraError) -> bool:
    return classification.status_of(error) in (403, 404, 405, 501)
