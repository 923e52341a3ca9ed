"""An image with nothing in it, for containers that only hold a volume or prove a bundle."""

from __future__ import annotations

import hashlib
import json

from taskgate.harness.engine import classification
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.tar_stream import of_files


def ensure_empty_image(engine: Engine, architecture: str) -> str:
    """The name of the empty image of an architecture, loaded if it is missing. Raises InfraError."""
    tag = f"taskgate/scratch:{architecture}"
    if tag in {name for image in _listed(engine, tag) for name in image.get("RepoTags") or ()}:
        return tag
    layer = of_files({})
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "taskgate: nothing"}],
    }
    data = json.dumps(config).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    about = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    with classification.translated("loading an empty image"):
        for _ in engine.api.load_image(of_files({name: data, "manifest.json": about, "layer.tar": layer})):  # type: ignore[no-untyped-call]
            pass
    return tag


def _listed(engine: Engine, tag: str) -> list[dict[str, list[str] | None]]:
    with classification.translated("listing images"):
        return list(engine.api.images(name=tag))
