"""ProgramBench: a folder a task, with a task.yaml; images without a network, to be worked on in /workspace.

Source: the package `programbench` 1.2.5, constants.py, container.py, eval/eval.py and data/tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

# What 1.2.5 evaluates in by default (`--image-tag`).
TAG = "task_cleanroom_v6"
ORGANISATION_VARIABLE = "PROGRAMBENCH_DOCKER_ORG"
ORGANISATION = "programbench"
KEYS = {"repository", "commit"}
# The package's own example, of which no image is published.
FIXTURES = "testorg__"
BELOW = (".", "data/tasks", "programbench/data/tasks")


def recognises(source: Source) -> bool:
    if source.text == ORGANISATION and not source.path.exists():
        return True
    return any(_is_task(folder) for folder in _folders(source))


def load(source: Source) -> Iterator[Row]:
    """The rows. Raises UsageError for a task.yaml that lacks what makes it one."""
    tag = source.options.get("tag", TAG)
    organisation = source.options.get("org") or os.environ.get(ORGANISATION_VARIABLE, ORGANISATION)
    any_task = False
    for folder in _folders(source):
        file = folder / "task.yaml"
        task_id = folder.name
        if task_id.startswith(FIXTURES):
            continue
        any_task = True
        content = yaml_tree.plain_yaml(file)
        if not isinstance(content, dict) or (missing := KEYS - content.keys()):
            raise source.fail(
                f"a task of ProgramBench has {' and '.join(sorted(KEYS))}",
                file=file,
                field="" if not isinstance(content, dict) else min(missing),
            )
        image = f"{organisation}/{task_id.replace('__', '_1776_')}:{tag}"
        yield Row(
            {
                "id": task_id,
                "image": image,
                "platform": "linux/amd64",
                "network": "none",
                "workdir": "/workspace",
                "repo_path": None,
                "init": True,
                "submission": "submission.tar.gz",
                "proof": {"harness": "programbench", "source": str(folder.absolute())},
            },
            str(file),
        )
    if not any_task:
        raise source.fail("no tasks of ProgramBench: expected OWNER__REPO.SHA/task.yaml in it, or in data/tasks")


def _folders(source: Source) -> list[Path]:
    """The tasks' folders: in the source, in its data/tasks, or in the installed package."""
    top = source.path
    if source.text == ORGANISATION and not top.exists():
        spec = find_spec(ORGANISATION)
        if spec is None or not spec.submodule_search_locations:
            raise source.fail("is neither a folder nor an installed package (pip install programbench)")
        top = Path(spec.submodule_search_locations[0])
    if (top / "task.yaml").is_file():
        return [top]
    for below in BELOW:
        folders = [file.parent for file in sorted((top / below).glob("*/task.yaml"))]
        if folders:
            return folders
    return []


def _is_task(folder: Path) -> bool:
    content = yaml_tree.glimpse(folder / "task.yaml")
    return "repository:" in content and "commit:" in content


IMPORTER = Importer("programbench", "a folder with OWNER__REPO.SHA/task.yaml", recognises, load, ("tag", "org"))
