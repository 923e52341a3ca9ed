"""Terminal-Bench: a folder a task, with task.yaml, and docker-compose.yaml or a Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import dockerfiles
from taskgate.harness.tasks.importers.importer import Build, Importer, Row, Source

SERVICE = "client"


def recognises(source: Source) -> bool:
    return any(
        "instruction:" in yaml_tree.glimpse(folder / "task.yaml", 1 << 20) for folder in _folders(source.path)[:3]
    )


def load(source: Source) -> Iterator[Row]:
    """The rows, by folder. Raises UsageError."""
    folders = _folders(source.path)
    if not folders:
        raise source.fail("no tasks of Terminal-Bench: expected task.yaml in it, or in its folders")
    for folder in folders:
        file = folder / "task.yaml"
        told = yaml_tree.plain_yaml(file)
        if not isinstance(told, dict) or "instruction" not in told:
            raise source.fail("is missing", file=file, field="instruction")
        image, more = dockerfiles.find(source, folder, SERVICE)
        fields: dict[str, Any] = {"id": folder.resolve().name, "repo_path": None, **more}
        if seconds := told.get("max_agent_timeout_sec"):
            fields["budget"] = {"seconds": seconds}
        if isinstance(image, str):
            fields["image"] = image
        yield Row(fields, str(file), build=image if isinstance(image, Build) else None)


def _folders(path: Path) -> list[Path]:
    if path.name == "task.yaml" and path.is_file():
        return [path.parent]
    if (path / "task.yaml").is_file():
        return [path]
    below = path / "tasks" if (path / "tasks").is_dir() else path
    return [file.parent for file in sorted(below.glob("*/task.yaml"))]


IMPORTER = Importer("terminalbench", "a folder with task.yaml and docker-compose.yaml or Dockerfile", recognises, load)
