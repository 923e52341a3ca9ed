"""Image names, by the grammar of the distribution project."""

from __future__ import annotations

import subprocess
import time

import pytest

from taskgate.harness.base.errors import ImageNotFound
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_name import ImageName, is_valid, split, split_tag, without_registry
from taskgate.harness.engine.image_request import ImageRequest

DIGEST = f"sha256:{'0' * 64}"
VALID = {
    "x": ("docker.io", "library/x", "", ""),
    "x:1": ("docker.io", "library/x", "1", ""),
    "a/b:v1.0_x-y": ("docker.io", "a/b", "v1.0_x-y", ""),
    "docker.io/x": ("docker.io", "library/x", "", ""),
    "index.docker.io/a/b": ("docker.io", "a/b", "", ""),
    "localhost/x": ("localhost", "x", "", ""),
    "h:5000/a/b": ("h:5000", "a/b", "", ""),
    "h:5000/a/b:1": ("h:5000", "a/b", "1", ""),
    "[::1]:5000/x:1": ("[::1]:5000", "x", "1", ""),
    "ghcr.io/epoch.research": ("ghcr.io", "epoch.research", "", ""),
    "Ghcr.IO/a": ("Ghcr.IO", "a", "", ""),
    f"a/b:1@{DIGEST}": ("docker.io", "a/b", "1", DIGEST),
    f"a/b@{DIGEST}": ("docker.io", "a/b", "", DIGEST),
    f"a:{'t' * 128}": ("docker.io", "library/a", "t" * 128, ""),
    "e/a--b__c.d": ("docker.io", "e/a--b__c.d", "", ""),
    "sha256:" + "0" * 64: ("docker.io", "library/sha256", "0" * 64, ""),
}
INVALID = {
    f"a:{'t' * 129}": "129 characters",
    f"a:{'t' * 133}": "at most 128",
    "A/b:1": "lower case",
    "SWE-Bench/x": "lower case",
    "h:5000/A": "lower case",
    "": "not part of a repository name",
    "a/": "not part of",
    "a//b": "not part of",
    "a:": "not a tag",
    "a:-x": "not a tag",
    "a:x y": "not a tag",
    "a b": "not part of",
    "-a": "not part of",
    "a_": "not part of",
    "a___b": "not part of",
    "a..b": "not part of",
    "https://h/a": "registry host",
    "my_host:5000/a": "registry host",
    "ä/b": "not part of",
    "a\n:1": "not part of",
    "a@sha256:0429": "not a digest",
    f"a@{DIGEST.upper()}": "not a digest",
    "a@": "not a digest",
    "0" * 64: "an image's id",
    "a" * 256: "256 characters",
}


@pytest.mark.parametrize("text", VALID)
def test_names_that_can_be(text: str) -> None:
    name = ImageName.parse(text)
    assert (name.registry, name.repository, name.tag, name.digest) == VALID[text] and is_valid(text)


@pytest.mark.parametrize("text", INVALID)
def test_names_that_no_registry_can_hold(text: str) -> None:
    with pytest.raises(ValueError, match=INVALID[text]):
        ImageName.parse(text)


def test_an_id_is_a_way_to_name_a_local_image() -> None:
    assert is_valid("0" * 64) and is_valid(DIGEST) and is_valid("0123456789ab")


@pytest.mark.parametrize("text", [*VALID, *INVALID])
def test_the_engine_agrees(text: str) -> None:
    """Docker's own client, whose first step is to take the name apart; none of these names is on the engine."""
    if not text or text.startswith("-") or text == "0" * 64 or "//" in text or text.endswith("/") or "\n" in text:
        pytest.skip("the command line, or the path of a URL, reads it otherwise")
    if text.startswith("["):
        pytest.skip("accepted since Docker 23")
    result = subprocess.run(["docker", "image", "inspect", text], capture_output=True, text=True, timeout=60)
    refused = "invalid" in result.stderr.lower() or "must not be more than" in result.stderr
    # A digest's own form is looked at later.
    assert refused == (text in INVALID) or "digest" in INVALID.get(text, ""), result.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x", ("x", "latest")),
        ("h:5000/x", ("h:5000/x", "latest")),
        ("h:5000/x:1", ("h:5000/x", "1")),
        (f"a:1@{DIGEST}", ("a", DIGEST)),
        ("", ("", "latest")),
    ],
)
def test_repository_and_tag(text: str, parts: tuple[str, str]) -> None:
    assert split(text) == parts


def test_parts() -> None:
    assert split_tag("h:5000/x") == ("h:5000/x", "", "") and split_tag("x:1") == ("x", ":", "1")
    assert without_registry("h:5000/a/b") == "a/b" and without_registry("a/b") == "a/b"


@pytest.mark.parametrize("pull", ["missing", "always", "never"])
@pytest.mark.parametrize("image", [f"a/b:{'t' * 133}", "a/B:1", "a b", "a\x1b[31m:1"])
def test_the_engine_is_not_asked_to_pull_it(engine: Engine, image: str, pull: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ImageNotFound, match="is not a valid image name") as caught:
        engine.image(ImageRequest(image, pull=pull))
    assert time.monotonic() - begun < 1 and "\x1b" not in str(caught.value)
