"""Images with a bundle in them: their names and labels, and how each is built only once."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from typing import Any

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification, ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime.bundle import Bundle, Store

LABEL = f"{ownership.LABEL}.runtime"
REPOSITORY = "taskgate/injected"


def tag_of(bundle: Bundle, base: str) -> str:
    """The tag of the image that is `base` (an image's id) with the bundle in it."""
    return f"{REPOSITORY}:{hashlib.sha256(f'{base} {bundle.name} {bundle.prefix}'.encode()).hexdigest()[:32]}"


def history_of(engine: Engine, base: str) -> list[dict[str, Any]]:
    """The history API's lines; none where it fails, as Podman's does for images whose history has no dates."""
    try:
        return engine.history(base)
    except InfraError as error:
        if classification.answer_of(error):
            return []
        raise


def build_lock(store: Store, tag: str) -> AbstractContextManager[None]:
    """Held while an image is built: one process builds it, the others wait."""
    return store.lock(f"layer-{hashlib.sha256(tag.encode()).hexdigest()[:24]}")


def existing(engine: Engine, tag: str, bundle: Bundle, base: str) -> str | None:
    """The id of an image that was built before, if its labels say that it is this one."""
    about = engine.inspect(tag)
    if about is None:
        return None
    labels = (about.get("Config") or {}).get("Labels") or {}
    return str(about["Id"]) if labels.get(LABEL) == labels_of(bundle, base)[LABEL] else None


def images(engine: Engine) -> dict[str, str]:
    """The images with a bundle in them that the engine has: name (or id) to the bundle's name."""
    return {name: label.partition(" ")[0] for name, label in engine.labelled_images(LABEL).items()}


def labels_of(bundle: Bundle, base: str) -> dict[str, str]:
    """What says of an image that it holds the bundle, and on top of what."""
    return {LABEL: f"{bundle.name} {bundle.prefix} {base}"}
