"""Mode `mount`: one volume a bundle, filled once, mounted read-only into every container."""

from __future__ import annotations

import io

from taskgate.harness.engine import archive_api, classification, ownership
from taskgate.harness.engine.client import Engine
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
    """Fill it unless it is whole already: the mark in it is written last."""
    api, volume = engine.api, name_of(bundle)
    image = ensure_empty_image(engine, engine.platform.split("/")[1])
    with classification.translated("making the runtime's volume"):
        made = api.create_volume(volume, labels={LABEL: bundle.digest})
        if LABEL not in (made.get("Labels") or {}) and engine.remove_volume(volume):
            # Where ours was removed, a container's start made an empty one, by which nobody would know it for ours.
            api.create_volume(volume, labels={LABEL: bundle.digest})
        created = api.create_container(
            image,
            entrypoint=["none"],
            labels=ownership.labels(ownership.new_session(), 600),
            host_config=api.create_host_config(binds=[f"{volume}:{bundle.prefix}:nocopy"]),
        )
    try:
        if _whole(engine, created["Id"], bundle):
            return
        with classification.translated("filling the runtime's volume"):
            api.put_archive(created["Id"], bundle.prefix, tar)
            api.put_archive(created["Id"], bundle.prefix, of_files({MARK: bundle.digest.encode()}))
    finally:
        engine.remove(created["Id"])


def volumes(engine: Engine) -> list[str]:
    """The names of the runtimes' volumes on the engine. Raises InfraError."""
    return [name for name, _ in engine.volumes(LABEL)]


def _whole(engine: Engine, container: str, bundle: Bundle) -> bool:
    return archive_api.stat(engine.api, container, f"{bundle.prefix}/{MARK}") is not None
