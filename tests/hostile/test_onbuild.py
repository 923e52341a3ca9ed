"""An image that says what is to be run where somebody builds from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from examples import images
from taskgate.harness.base.errors import BundleError, ImageRefused
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.runtime import dockerfile, layer, sources
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.tasks.runtime_spec import Runtime
from tests import engines
from tests.library import bring

TAG = "taskgate-test/onbuild-made:1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def thing(engine: Engine, store: Store, tmp_path: Path) -> Bundle:
    (tmp_path / "thing/bin").mkdir(parents=True)
    (tmp_path / "thing/bin/x").write_text("x")
    runtime = Runtime(directory=str(tmp_path / "thing"), path="/opt/thing")
    return sources.resolve(engine, store, runtime, engine.platform)


@pytest.fixture
def base(client: Any, sound: str) -> str:
    lines = "ONBUILD RUN touch /pwned\nONBUILD USER root"
    return str(client.images.get(images.build(client, "taskgate-test/onbuild:1", f"FROM {sound}\n{lines}")).id)


def test_a_build_runs_nothing_of_it(engine: Engine, client: Any, store: Store, thing: Bundle, base: str) -> None:
    with pytest.raises(BundleError, match="ONBUILD"):
        dockerfile.build(engine, thing, store, base, TAG)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(TAG)


def test_podman_tells_of_it_in_the_history(client: Any, store: Store, tmp_path: Path, thing: Bundle, base: str) -> None:
    with engines.podman() as daemon:
        made = docker.DockerClient(base_url=daemon.url, version="auto", timeout=120)
        bring(client, made, "taskgate-test/onbuild:1")
        other = Engine(daemon.url)
        given = other.image(ImageRequest("taskgate-test/onbuild:1", pull="never")).digest
        with pytest.raises(BundleError, match="ONBUILD"):
            dockerfile.build(other, thing, store, given, TAG)
        other.close()
        made.close()


def test_a_layer_needs_no_build(engine: Engine, client: Any, store: Store, thing: Bundle, base: str) -> None:
    made = layer.append(engine, thing, store, base, TAG)
    try:
        told = client.containers.run(made, ["-c", "ls / /opt/thing/bin"], entrypoint=["/bin/sh"], remove=True)
        assert b"pwned" not in told and told.split()[-1] == b"x"
    finally:
        client.images.remove(TAG)


def test_where_a_layer_is_refused_it_is_not_built(
    engine: Engine, store: Store, thing: Bundle, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containerd's store refuses every layer."""

    def refused(*given: Any) -> None:
        raise ImageRefused("layer not found")

    monkeypatch.setattr(layer, "_load", refused)
    with pytest.raises(BundleError, match="ONBUILD"):
        layer.append(engine, thing, store, base, TAG)


def test_a_build_has_no_network(
    engine: Engine, client: Any, store: Store, thing: Bundle, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were an engine to keep such instructions to itself."""
    lines = "ONBUILD RUN ls /sys/class/net >/interfaces"
    named = images.build(client, "taskgate-test/onbuild-net:1", f"FROM {base}\n{lines}")
    monkeypatch.setattr(dockerfile, "_refuse_triggers", lambda engine, base: None)
    made = dockerfile.build(engine, thing, store, client.images.get(named).id, TAG)
    try:
        assert client.containers.run(made, ["-c", "cat /interfaces"], entrypoint=["/bin/sh"], remove=True) == b"lo\n"
    finally:
        client.images.remove(TAG)
