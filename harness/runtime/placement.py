"""How one bundle gets into the containers of one engine: by a mount, a layer, or a build."""

from __future__ import annotations

from taskgate.harness.engine import Engine, Image
from taskgate.harness.runtime import dockerfile, layer, volume
from taskgate.harness.runtime.bundle import Bundle, Store


class Placement:
    """`binds` are the mounts that a container needs, as the engine's host configuration has them."""

    def __init__(self, engine: Engine, store: Store, bundle: Bundle, mode: str) -> None:
        """Have the bundle on the engine. Raises InfraError."""
        self.bundle, self._engine, self._store = bundle, engine, store
        # Every engine of today has volumes: what `auto` would have to probe for is only whether one can be made.
        self.mode = "mount" if mode == "auto" else mode
        self.binds: list[str] = []
        if self.mode == "mount":
            volume.ensure(engine, bundle, store)
            self.binds = [volume.bind(bundle)]

    def image(self, image: Image) -> str:
        """The id of the image to make the container from. Raises InfraError."""
        if self.mode == "layer":
            return layer.append(self._engine, self.bundle, self._store, image.digest)
        if self.mode == "build":
            return dockerfile.build(self._engine, self.bundle, self._store, image.digest)
        return image.digest

    @property
    def fingerprint(self) -> str:
        return f"runtime={self.bundle.digest}@{self.bundle.prefix} by {self.mode}"
