"""The engine, as far as it is ours: what an image is called, and which one is meant."""

from __future__ import annotations

from typing import Any

import pytest

from taskgate.harness.engine.client import Engine, full_name


def _engine(*listed: tuple[str, str], podman: bool = False, listing: bool = True) -> Engine:
    """One that has these images, by name and digest. `x` is Docker's `docker.io/library/x`, and first of all
    `localhost/x` to Podman."""

    class Api:
        def images(self) -> list[dict[str, Any]]:
            return [{"RepoTags": [name], "Id": digest} for name, digest in listed]

        def inspect_image(self, name: str) -> dict[str, Any]:
            known = dict(listed)
            return {"Id": known.get(f"localhost/{name}") or known[name]}

    made = Engine.__new__(Engine)
    made.api, made.podman, made._listing, made._digests = Api(), podman, listing, None
    return made


@pytest.mark.parametrize("order", [1, -1])
def test_two_images_of_one_name_on_docker(order: int) -> None:
    engine = _engine(*[("demo:1", "sha256:new"), ("localhost/demo:1", "sha256:old")][::order])
    assert engine.digest("demo:1") == engine.digest("docker.io/library/demo:1") == "sha256:new"
    assert engine.digest("localhost/demo:1") == "sha256:old"
    assert engine.digest("other:1") is None


@pytest.mark.parametrize("order", [1, -1])
def test_two_images_of_one_name_on_podman(order: int) -> None:
    """Which one it would take, it is asked."""
    listed = [
        ("docker.io/library/demo:1", "sha256:hub"),
        ("localhost/demo:1", "sha256:own"),
        ("localhost/a:1", "sha256:a"),
    ]
    engine = _engine(*listed[::order], podman=True)
    assert engine.digest("demo:1") == engine.digest("localhost/demo:1") == "sha256:own"
    assert engine.digest("docker.io/library/demo:1") == "sha256:hub"
    assert engine.digest("a:1") == "sha256:a"


def test_a_listing_is_as_old_as_the_first_question() -> None:
    for listing, told in ((True, "sha256:old"), (False, "sha256:new")):
        engine = _engine(("demo:1", "sha256:old"), listing=listing)
        assert engine.digest("demo:1") == "sha256:old"
        engine.api.inspect_image = lambda name: {"Id": "sha256:new"}
        assert engine.digest("demo:1") == told


@pytest.mark.parametrize("name", ["x", "x:latest", "library/x", "docker.io/x", "docker.io/library/x:latest"])
def test_one_spelling(name: str) -> None:
    assert full_name(name) == full_name(name, localhost=False) == "x:latest"
    assert full_name("localhost/x") == "x:latest" and full_name("localhost/x", localhost=False) == "localhost/x:latest"
