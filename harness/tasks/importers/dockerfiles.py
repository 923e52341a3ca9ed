"""The image of a task that brings docker-compose.yaml or a Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Build, Source
from taskgate.harness.tasks.importers.services import Service

COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")


def find(source: Source, folder: Path, service: str) -> tuple[Build | str, dict[str, Any]]:
    """How the image of a folder's main service is made, or its name; and what else is told of it, as a manifest's
    fields.

    `service`: what the service is called where there are several. Raises UsageError.
    """
    if file := _compose_file(folder):
        return _composed(source, folder, file, service)
    if not (folder / "Dockerfile").is_file():
        raise source.fail("there is neither an image, nor a Dockerfile, nor a docker-compose.yaml", file=folder)
    return Build(folder), _workdir(folder / "Dockerfile")


def fields_of(source: Source, folder: Path, service: str) -> dict[str, Any]:
    """What a compose file, where there is one, tells of a service beside its image. Raises UsageError."""
    file = _compose_file(folder)
    services = _services(source, file) if file else {}
    return _service(source, file, services, service).fields() if file and service in services else {}


def _compose_file(folder: Path) -> Path | None:
    return next((folder / name for name in COMPOSE if (folder / name).is_file()), None)


def _services(source: Source, file: Path) -> dict[str, Any]:
    told = yaml_tree.plain_yaml(file)
    services = told.get("services") if isinstance(told, dict) else None
    if not isinstance(services, dict) or not services:
        raise source.fail("must be a mapping of services", file=file, field="services")
    return services


def _service(source: Source, file: Path, services: dict[str, Any], name: str) -> Service:
    told = services[name] or {}
    if not isinstance(told, dict):
        raise source.fail("must be a mapping", file=file, field=f"services.{name}")
    return Service(source, file, name, told)


def _composed(source: Source, folder: Path, file: Path, wanted: str) -> tuple[Build | str, dict[str, Any]]:
    services = _services(source, file)
    name = wanted if wanted in services else next(iter(services))
    if wanted not in services and len(services) > 1:
        raise source.fail(f"which service is the task's? None is called {wanted}", file=file, field="services")
    service = _service(source, file, services, name)
    fields = service.fields()
    image, build = service.told.get("image"), service.told.get("build")
    if build is None:
        if isinstance(image, str) and "$" not in image:
            return image, fields
        if not (folder / "Dockerfile").is_file():
            raise source.fail("names no image, and there is no Dockerfile", file=file, field=f"services.{name}.image")
        build = "."
    made = _build(source, folder, file, name, {"context": build} if isinstance(build, str) else build)
    return made, {**_workdir(made.context / made.dockerfile), **fields}


def _build(source: Source, folder: Path, file: Path, name: str, told: Any) -> Build:
    field = f"services.{name}.build"
    if not isinstance(told, dict):
        raise source.fail("must be text or a mapping", file=file, field=field)
    inner, dockerfile, target = told.get("context", "."), told.get("dockerfile", "Dockerfile"), told.get("target")
    args = told.get("args") or {}
    if isinstance(args, list):
        args = dict(str(one).partition("=")[::2] for one in args)
    if not isinstance(inner, str) or not isinstance(dockerfile, str) or not isinstance(args, dict):
        raise source.fail("context and dockerfile must be texts, args a mapping", file=file, field=field)
    try:
        context, top = (folder / inner).resolve(), folder.resolve()
        place = (context / dockerfile).resolve()
        there = place.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long, a NUL byte.
        raise source.fail(f"context or dockerfile can't be a path: {error}", file=file, field=field) from error
    # A task set is not ours: what it builds from is its own folder, and nothing else of this host.
    if not context.is_relative_to(top) or not place.is_relative_to(top):
        raise source.fail("leads out of the task's folder", file=file, field=field)
    if not there:
        raise source.fail(f"there is no {dockerfile}", file=file, field=field)
    given = {str(key): str(value) for key, value in args.items() if value is not None and "$" not in str(value)}
    return Build(context, dockerfile, given, target if isinstance(target, str) else None)


def _workdir(dockerfile: Path) -> dict[str, Any]:
    """The last WORKDIR, if it says all by itself."""
    text = yaml_tree.glimpse(dockerfile, 1 << 20)
    found = re.findall(r"^[ \t]*WORKDIR[ \t]+(\S+)[ \t]*$", text, re.I | re.M)
    last = found[-1].strip("\"'") if found else ""
    return {"workdir": last} if last.startswith("/") and "$" not in last else {}
