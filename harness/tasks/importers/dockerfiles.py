"""The image of a task that brings docker-compose.yaml or a Dockerfile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import compose, dockerfile_text
from taskgate.harness.tasks.importers.compose import Composed
from taskgate.harness.tasks.importers.importer import Build, Source

COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
DOCKERFILE = "Dockerfile"


def find(
    source: Source,
    folder: Path,
    service: str,
    *,
    image: str | None = None,
    variables: Mapping[str, str] | None = None,
    implicit: bool = False,
) -> Composed:
    """What a folder says of a task: the image or how it is built, the manifest's fields, the services beside it.

    `service`: what the task's own service is called. `image`: one that is named elsewhere. `variables`: what the
    publisher's harness sets for the compose file. `implicit`: the file is laid over one that has `service` already.
    Raises UsageError.
    """
    file = compose_file(folder)
    result = (
        compose.read(source, file, service, variables or {}, implicit=implicit)
        if file
        else Composed(source, folder / DOCKERFILE)
    )
    if image is not None:
        result.image, result.build = image, None
    elif result.image is None and result.build is None:
        result.build = _plain_build(source, folder, file, service)
    if result.build and "workdir" not in result.fields:
        result.fields.update(_workdir(result.build))
    return result


def compose_file(folder: Path) -> Path | None:
    """The folder's compose file."""
    return next((folder / name for name in COMPOSE if (folder / name).is_file()), None)


def _plain_build(source: Source, folder: Path, file: Path | None, service: str) -> Build:
    if (folder / DOCKERFILE).is_file():
        return Build(folder)
    if file:
        problem = "names no image, and there is no Dockerfile"
        raise source.fail(problem, file=file, field=f"services.{service}.image")
    raise source.fail("there is neither an image, nor a Dockerfile, nor a docker-compose.yaml", file=folder)


def _workdir(build: Build) -> dict[str, Any]:
    text = yaml_tree.glimpse(build.context / build.dockerfile, 1 << 20)
    path = dockerfile_text.workdir(text, build.target)
    return {"workdir": path} if path else {}
