"""What an agent is given: folders in its container, an environment, its program's place."""

from __future__ import annotations

import posixpath
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskgate.harness import faults
from taskgate.harness.container import Container
from taskgate.harness.engine import Engine, Image
from taskgate.harness.environment import of_agent
from taskgate.harness.errors import UsageError
from taskgate.harness.runner.spec import IN_DIR, OUT_DIR, RunSpec
from taskgate.harness.runtime.bundle import Bundle
from taskgate.harness.task import Budget, Task


def equip(engine: Engine, container: Container, inputs: Path | None) -> None:
    """Before the container is started: a folder that anybody may write to, and what there is to read, for all to read.

    Raises UsageError where `inputs` can't be read or holds what is neither file, folder nor link; InfraError.
    """

    def readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise UsageError(f"{member.name} is neither file, folder nor link", field="--inputs")
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = member.mode & 0o755 | (0o555 if member.isdir() else 0o444)
        return member

    with tempfile.TemporaryFile() as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                folder = tarfile.TarInfo(OUT_DIR.lstrip("/"))
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
                tar.addfile(folder)
                if inputs:
                    tar.add(inputs, IN_DIR.lstrip("/"), filter=readable)
        except OSError as error:
            raise UsageError(f"{inputs} can't be read: {error}", field="--inputs") from error
        file.seek(0)
        with faults.translated("making folders in the container"):
            engine.api.put_archive(container.id, "/", file)


def submission_of(task: Task) -> str | None:
    """Where in the container the task's submission is to be."""
    return posixpath.join(OUT_DIR, task.submission) if task.submission else None


def environment(
    task: Task, spec: RunSpec, image: Image, budget: Budget, bundle: Bundle | None, room: Mapping[str, str]
) -> dict[str, str]:
    """What the agent's process has beside the image's and the task's own variables; the run's own come last."""
    given: dict[str, Any] = {
        "TASKGATE_TASK_ID": task.id,
        "TASKGATE_OUT": OUT_DIR,
        "TASKGATE_IN": IN_DIR if spec.inputs_of(task) else None,
        "TASKGATE_SUBMISSION": submission_of(task),
        "TASKGATE_SECONDS": f"{budget.seconds:g}" if budget.seconds else None,
        "TASKGATE_CALLS": budget.calls,
    }
    told = {name: str(value) for name, value in given.items() if value is not None}
    return {**of_agent(image, task, bundle), **told, **room, **spec.env, **spec.secrets}


def described(task: Task, spec: RunSpec, budget: Budget) -> dict[str, Any]:
    """The task as a server or a driver is told of it."""
    return {
        "task_id": task.id,
        "workdir": task.start_dir,
        "repo_path": task.repo_path,
        "base_commit": task.base_commit,
        "submission": submission_of(task),
        "out": OUT_DIR,
        "in": IN_DIR if spec.inputs_of(task) else None,
        "seconds": budget.seconds,
        "calls": budget.calls,
    }
