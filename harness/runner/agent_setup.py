"""What an agent is given: folders in its container, an environment, its program's place."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.tar_stream import anonymous
from taskgate.harness.runner.folders import Folders
from taskgate.harness.runner.inputs import Inputs
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runtime.bundle import Bundle
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.environment import of_agent
from taskgate.harness.tasks.task import Budget, Task


def equip(engine: Engine, container: Container, folders: Folders, spec: RunSpec, task: Task) -> None:
    """Before the container is started: a folder that anybody may write to, and what there is to read, for all to read.

    Raises UsageError where the inputs can't be read, or hold what may not be given (see Inputs); InfraError.
    """
    with tempfile.TemporaryFile() as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                folder = tarfile.TarInfo(folders.out.lstrip("/"))
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
                tar.addfile(folder)
                if folders.given:
                    _add_inputs(tar, spec, task, folders.given.lstrip("/"))
        except OSError as error:
            raise UsageError(f"{error.filename or spec.inputs} can't be read: {error}", field="--inputs") from error
        file.seek(0)
        engine.put_tar(container.id, "/", file, doing="making folders in the container")


def _add_inputs(tar: tarfile.TarFile, spec: RunSpec, task: Task, given: str) -> None:
    """What the task is given, below the name `given`. Raises UsageError, OSError."""
    source = spec.inputs_of(task)
    assert spec.inputs and source
    for name, path in [("", source), *Inputs(spec.inputs).walk(source)]:
        member = tar.gettarinfo(path, f"{given}/{name}" if name else given)
        # A second name of a file is a file of its own there.
        member.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
        member.size = 0 if path.is_dir() else path.stat().st_size
        anonymous(member)
        member.mode = member.mode & 0o755 | (0o555 if path.is_dir() else 0o444)
        if path.is_dir():
            tar.addfile(member)
        else:
            with path.open("rb") as file:
                tar.addfile(member, file)


def environment(
    task: Task,
    spec: RunSpec,
    image: Image,
    budget: Budget,
    folders: Folders,
    bundle: Bundle | None,
    room: Mapping[str, str],
) -> dict[str, str]:
    """What the agent's process has beside the image's and the task's own variables; the run's own come last."""
    given: dict[str, Any] = {
        "TASKGATE_TASK_ID": task.id,
        "TASKGATE_OUT": folders.out,
        "TASKGATE_IN": folders.given,
        "TASKGATE_SUBMISSION": folders.submission,
        "TASKGATE_SECONDS": f"{budget.seconds:g}" if budget.seconds else None,
        "TASKGATE_CALLS": budget.calls,
        "TASKGATE_SKILLS": task.skills_dir,
        "TASKGATE_MCP_SERVERS": json.dumps(mcp_servers(task)) if task.mcp_servers else None,
    }
    fields = {name: str(value) for name, value in given.items() if value is not None}
    variables = {**of_agent(image, task, bundle), **fields, **room, **spec.env, **spec.secrets}
    return variables | _past_proxies({**image.env, **task.env, **variables}) if room else variables


def _past_proxies(env: Mapping[str, str]) -> dict[str, str]:
    """The endpoint is on the loopback interface: a proxy that image or task name would not reach it."""
    return {
        name: ",".join(filter(None, (env.get(name) or env.get(name.swapcase()), "127.0.0.1,localhost")))
        for name in ("no_proxy", "NO_PROXY")
    }


def mcp_servers(task: Task) -> list[dict[str, Any]]:
    """The task's MCP servers, as JSON has them."""
    return [asdict(server) for server in task.mcp_servers]


def described(task: Task, image: Image, budget: Budget, folders: Folders) -> dict[str, Any]:
    """The task as a server or a driver receives it."""
    return {
        "task_id": task.id,
        "workdir": task.start_dir(image.workdir),
        "repo_path": task.repo_path,
        "base_commit": task.base_commit,
        "skills_dir": task.skills_dir,
        "mcp_servers": mcp_servers(task),
        "artifacts": list(task.artifacts),
        "submission": folders.submission,
        "out": folders.out,
        "in": folders.given,
        "seconds": budget.seconds,
        "calls": budget.calls,
    }
