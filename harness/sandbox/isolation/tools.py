"""The Python that taskgate's own helper containers run: a runtime on the engine, in an otherwise empty image."""

from __future__ import annotations

from taskgate.harness.base.errors import BundleError, UsageError
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.platforms import architecture_of, without_variant
from taskgate.harness.runtime import sources, volume
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.runtime.empty_image import ensure_empty_image
from taskgate.harness.tasks.runtime_spec import Runtime


class Tools:
    """`image` and `binds` make a container in which `python` (an absolute path) runs; a task's container can be given
    the same mount."""

    def __init__(self, engine: Engine, store: Store) -> None:
        """Takes any bundle of taskgate's own, and builds one where there is none. Raises InfraError."""
        bundle = _bundle(engine, store)
        volume.ensure(engine, bundle, store)
        assert bundle.python
        self.python = bundle.python
        self.binds = [volume.bind(bundle)]
        self.image = ensure_empty_image(engine, architecture_of(bundle.platform))


def _bundle(engine: Engine, store: Store) -> Bundle:
    platform = without_variant(engine.platform)
    for bundle in reversed(store.all()):
        if bundle.proven and bundle.platform == platform:
            return bundle
    try:
        return sources.resolve(engine, store, Runtime(), platform)
    except UsageError as error:
        raise BundleError(
            f"isolation can't be proven without a runtime, and none can be built: {error}\n"
            "Give a task of the manifest a `runtime`, with a `builder` that this engine has, and run "
            "`taskgate runtime build`."
        ) from error
