"""An image with as many layers as an engine allows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import BundleError
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import dockerfile, layer
from taskgate.harness.runtime.bundle import Bundle, Store

# As many as overlay2 mounts.
LAYERS = 125


@pytest.fixture(scope="module")
def deep(client: Any) -> str:
    tag = "taskgate-test/deep:1"
    layers = {f"{n}.tar": images.archive({f"file-{n}": b"x"}) for n in range(LAYERS)}
    config = {
        "architecture": client.version()["Arch"],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers.values()],
        },
    }
    entry = {"Config": "config.json", "RepoTags": [tag], "Layers": list(layers)}
    files = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps([entry]).encode()}
    client.images.load(images.archive({**layers, **files}))
    return tag


@pytest.mark.parametrize("bring", [layer.append, dockerfile.build])
def test_one_layer_too_many(engine: Engine, deep: str, tmp_path: Path, bring: Any) -> None:
    """A mount needs none, and the message says so."""
    store = Store(tmp_path)
    tmp_path.joinpath("x.tar").write_bytes(images.archive({"bin/x": b"x"}))
    bundle = Bundle("0" * 16, "/.taskgate/0000000000000000", engine.platform, (tmp_path / "x.tar").stat().st_size)
    store.add("key", bundle, tmp_path / "x.tar")
    about = engine.inspect(deep)
    assert about
    with pytest.raises(BundleError, match=r"max depth exceeded.*`mode: mount`"):
        bring(engine, bundle, store, about["Id"], "taskgate-test/deeper:1")
