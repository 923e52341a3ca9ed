"""Terminal-Bench: a folder a task, with task.yaml, and docker-compose.yaml or a Dockerfile.

Source: the package `terminal-bench` 0.2.18: handlers/trial_handler.py and terminal/docker_compose_manager.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import dockerfiles
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

SERVICE = "client"
# How long an agent may work where the task says nothing.
AGENT_SECONDS = 360.0
# What the harness sets for a task's compose file; the names of images, containers and folders differ from run to run.
VARIABLES = {
    "T_BENCH_TEST_DIR": "/tests",
    "T_BENCH_CONTAINER_LOGS_PATH": "/logs",
    "T_BENCH_CONTAINER_AGENT_LOGS_PATH": "/agent-logs",
}


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
        content = yaml_tree.plain_yaml(file)
        if not isinstance(content, dict) or "instruction" not in content:
            raise source.fail("is missing", file=file, field="instruction")
        container = dockerfiles.find(source, folder, SERVICE, variables=VARIABLES)
        container.check()
        seconds = content.get("max_agent_timeout_sec")
        fields: dict[str, Any] = {
            "id": folder.resolve().name,
            "repo_path": None,
            **container.fields,
            "budget": {"seconds": AGENT_SECONDS if seconds is None else seconds},
            **_proof(folder, seconds),
            **({"services": container.services} if container.services else {}),
            **({"image": container.image} if container.image else {}),
        }
        yield Row(fields, str(file), build=container.build, service_builds=container.builds)


def _proof(folder: Path, seconds: Any) -> dict[str, Any]:
    if not (folder / "run-tests.sh").is_file():
        return {}
    timeout = AGENT_SECONDS if seconds is None else seconds
    return {"proof": {"harness": "terminal-bench", "source": str(folder.absolute()), "timeout": timeout}}


def _folders(path: Path) -> list[Path]:
    if path.name == "task.yaml" and path.is_file():
        return [path.parent]
    if (path / "task.yaml").is_file():
        return [path]
    below = path / "tasks" if (path / "tasks").is_dir() else path
    return [file.parent for file in sorted(below.glob("*/task.yaml"))]


IMPORTER = Importer("terminalbench", "a folder with task.yaml and docker-compose.yaml or Dockerfile", recognises, load)
