"""Harbor: a folder with a task.toml, folders of them, or a dataset.toml beside them.

Source: the package `harbor` 0.25.0, models/task/config.py, models/task/paths.py and models/dataset/manifest.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import dockerfiles
from taskgate.harness.tasks.importers.importer import Build, Importer, Row, Source

TASK, DATASET = "task.toml", "dataset.toml"
SERVICE = "main"
# An allow-list of hosts is the endpoint's, of a run: nothing else is let through.
NETWORKS = {"public": "bridge", "no-network": "none", "allowlist": "none"}
MIB = 1 << 20
MAX_BYTES = 4 << 20
# A key of so many parts, `a.b.c`.
MANY_PARTS = re.compile(rb"(?<![\w-])(?:(?:[\w-]++|\"[^\"\n]*\"|'[^'\n]*')[ \t]*\.[ \t]*){32}")


def recognises(source: Source) -> bool:
    path = source.path
    if path.name in (TASK, DATASET):
        return path.is_file()
    return path.is_dir() and bool((path / TASK).is_file() or (path / DATASET).is_file() or any(path.glob(f"*/{TASK}")))


def load(source: Source) -> Iterator[Row]:
    """The rows, by folder. Raises UsageError."""
    path = source.path if source.path.is_dir() else source.path.parent
    wanted = _listed(source, path / DATASET) if (path / DATASET).is_file() and source.path.name != TASK else None
    folders = [path] if (path / TASK).is_file() else [file.parent for file in sorted(path.glob(f"*/{TASK}"))]
    seen = set()
    for folder in folders:
        file = folder / TASK
        told = _toml(source, file)
        name = _at(source, file, told, "task", "name", str) or folder.name
        if wanted is not None and not wanted & {name, name.rpartition("/")[2]}:
            continue
        seen.update({name, name.rpartition("/")[2]})
        yield _row(source, folder, file, told, name)
    if wanted is not None and (missing := sorted(name for name in wanted if name not in seen)):
        raise source.fail(
            f"names tasks that are not beside it: {', '.join(missing[:5])}", file=path / DATASET, field="tasks"
        )
    if not seen:
        raise source.fail(f"no tasks of Harbor: expected {TASK} in it, or in its folders")


def _row(source: Source, folder: Path, file: Path, told: dict[str, Any], name: str) -> Row:
    def at(section: str, key: str, *kinds: type) -> Any:
        return _at(source, file, told, section, key, *kinds)

    mode = at("agent", "network_mode", str) or at("environment", "network_mode", str)
    if mode is None:
        mode = "no-network" if at("environment", "allow_internet", bool) is False else "public"
    if mode not in NETWORKS:
        raise source.fail(f"must be one of {', '.join(NETWORKS)}", file=file, field="environment.network_mode")
    image, build = at("environment", "docker_image", str), None
    # A link could make a context of all that is above.
    if (folder / "environment").is_symlink():
        raise source.fail("must be a folder of the task's own", file=folder / "environment")
    if image is None:
        build, inner = dockerfiles.find(source, folder / "environment", SERVICE)
        image = build if isinstance(build, str) else None
    else:
        inner = dockerfiles.fields_of(source, folder / "environment", SERVICE)
    env = at("environment", "env", dict) or {}
    # What is taken from the host at run time may be a secret: a run passes it with --secret.
    env = {key: str(value) for key, value in env.items() if "$" not in str(value)}
    fields = {
        "id": name,
        "repo_path": None,
        "workdir": at("environment", "workdir", str) or inner.get("workdir"),
        # What either closes is closed.
        "network": inner.get("network") or NETWORKS[mode],
        "user": _as_text(at("agent", "user", str, int)) or inner.get("user"),
        "env": {**inner.get("env", {}), **env},
        "limits": inner.get("limits", {})
        | _known(
            cpus=at("environment", "cpus", int, float),
            memory=_mib(
                source, file, "memory_mb", at("environment", "memory_mb", int), at("environment", "memory", str)
            ),
            disk=_mib(
                source, file, "storage_mb", at("environment", "storage_mb", int), at("environment", "storage", str)
            ),
        ),
        "budget": _known(seconds=at("agent", "timeout_sec", int, float)),
        "platform": "linux/amd64" if at("environment", "os", str) in (None, "linux") else "windows/amd64",
    }
    fields = {key: value for key, value in fields.items() if value not in (None, {}) or key == "repo_path"}
    made = build if isinstance(build, Build) else None
    return Row({**fields, **({"image": image} if image else {})}, str(file), build=made)


def _listed(source: Source, file: Path) -> set[str]:
    told = _toml(source, file).get("tasks")
    if not isinstance(told, list):
        raise source.fail("must be a list of tables with a name", file=file, field="tasks")
    names = set()
    for number, one in enumerate(told):
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise source.fail("must be text", file=file, field=f"tasks[{number}].name")
        names.add(one["name"].rpartition("/")[2])
    return names


def _toml(source: Source, file: Path) -> dict[str, Any]:
    data = yaml_tree.read(file, most=MAX_BYTES, regular=True)
    # The memory that its parser takes grows with the square of them.
    if MANY_PARTS.search(data):
        raise source.fail(f"is nested more than {yaml_tree.MAX_DEPTH} deep", file=file)
    try:
        told = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise source.fail(f"is no TOML: {error}", file=file) from error
    yaml_tree.check(told, str(file))
    return told


def _at(source: Source, file: Path, told: dict[str, Any], section: str, key: str, *kinds: type) -> Any:
    """A value of a section, of one of these types; None where it is not given."""
    table = told.get(section, {})
    if not isinstance(table, dict):
        raise source.fail("must be a table", file=file, field=section)
    value = table.get(key)
    if value is None or (isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)):
        return value
    names = " or ".join(
        {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}[kind]
        for kind in kinds
    )
    raise source.fail(f"must be {names}", file=file, field=f"{section}.{key}")


def _mib(source: Source, file: Path, key: str, value: int | None, old: str | None) -> int | str | None:
    if value is not None and value < 1:
        raise source.fail("must be more than 0", file=file, field=f"environment.{key}")
    return value * MIB if value is not None else old


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _as_text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


IMPORTER = Importer("harbor", "task.toml, folders with one, or dataset.toml", recognises, load)
