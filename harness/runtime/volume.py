"""Mode `mount`: one volume for each bundle, filled once, mounted read-only into every container."""

from __future__ import annotations

import io

from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.platforms import architecture_of
from taskgate.harness.engine.tar_stream import of_files
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.runtime.empty_image import ensure_empty_image

LABEL = f"{ownership.LABEL}.runtime"
MARK = ".taskgate-complete"


def name_of(bundle: Bundle) -> str:
    return f"taskgate-runtime-{bundle.name}"


def bind(bundle: Bundle) -> str:
    """The mount as the engine's `Binds` has it. Nothing of the image's is copied in, nothing can be written."""
    return f"{name_of(bundle)}:{bundle.prefix}:ro,nocopy"


def ensure(engine: Engine, bundle: Bundle, store: Store) -> None:
    """Have the volume on the engine, whole. Raises InfraError, NoSpace."""
    with store.lock(f"volume-{bundle.name}"), store.tar(bundle).open("rb") as file:
        fill(engine, bundle, file)


def fill(engine: Engine, bundle: Bundle, tar: io.BufferedReader) -> None:
    """Fill it unless it is complete already: its mark is written last."""
    name, labels = name_of(bundle), {LABEL: bundle.digest}
    image = ensure_empty_image(engine, architecture_of(engine.platform))
    if LABEL not in engine.create_volume(name, labels) and engine.remove_volume(name):
        # After ours was removed, the start of a container created an empty one without a label.
        engine.create_volume(name, labels)
    binds = [f"{name}:{bundle.prefix}:nocopy"]
    with engine.temporary_container(image, seconds=600, binds=binds) as container:
        if engine.stat(container, f"{bundle.prefix}/{MARK}") is not None:
            return
        for data in (tar, of_files({MARK: bundle.digest.encode()})):
            engine.put_tar(container, bundle.prefix, data, doing="filling the runtime's volume")


def volumes(engine: Engine) -> list[str]:
    """The names of the runtimes' volumes on the engine. Raises InfraError."""
    return [name for name, _ in engine.volumes(LABEL)]
