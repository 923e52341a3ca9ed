"""An image with nothing in it, for containers that only hold a volume or prove a bundle."""

from __future__ import annotations

import hashlib
import json

from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.tar_stream import of_files

LOAD_SECONDS = 60.0


def ensure_empty_image(engine: Engine, architecture: str) -> str:
    """The name of the empty image of an architecture, loaded if it is missing. Raises InfraError."""
    tag = f"taskgate/scratch:{architecture}"
    if engine.has_tag(tag):
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
    engine.load_image(of_files({name: data, "manifest.json": about, "layer.tar": layer}), tag, seconds=LOAD_SECONDS)
    return tag
