"""Containers for the container library's tests, on whichever engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import docker.errors


@contextmanager
def running(client: Any, image: str, **more: Any) -> Iterator[Any]:
    """A container that stays."""
    given = {"entrypoint": ["tail", "-f", "/dev/null"], "init": "entrypoint" not in more, **more}
    made = client.containers.run(named(client, image), command=[], detach=True, **given)
    try:
        yield made
    finally:
        with suppress(docker.errors.NotFound):
            made.remove(force=True, v=True)


def named(client: Any, image: str) -> str:
    """The image as this engine calls it: Podman keeps what it was given without a registry under localhost."""
    for name in (image, f"localhost/{image}"):
        with suppress(docker.errors.ImageNotFound):
            return str(client.images.get(name).id)
    raise AssertionError(f"there is no {image}")


def bring(source: Any, target: Any, image: str) -> None:
    """An image of one engine onto another, where it is not there already."""
    with suppress(AssertionError):
        named(target, image)
        return
    with tempfile.TemporaryFile() as file:
        for chunk in source.images.get(image).save(named=image):
            file.write(chunk)
        file.seek(0)
        target.images.load(file)
