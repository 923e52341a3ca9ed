"""What an agent has left, out of its container."""

from __future__ import annotations

import contextlib
import posixpath
import shutil
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import InfraError
from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import completion, submissions
from taskgate.harness.runner.completion import Unfinished
from taskgate.harness.runner.folders import Folders
from taskgate.harness.sandbox import transfer
from taskgate.harness.sandbox.container import Container

ARTIFACT_BYTES = 8 << 30


def standing(engine: Engine, container: Container, folders: Folders) -> dict[str, Any] | None:
    """What the container has as the task's submission, with its time; None where it has none."""
    # A loop of links is nothing that could be fetched.
    with contextlib.suppress(InfraError):
        return engine.stat(container.id, folders.submission) if folders.submission else None
    return None


def collect(
    engine: Engine, container: Container, folder: Path, folders: Folders, before: dict[str, Any] | None
) -> list[str]:
    """Fetch its files into `folder`; their names. A submission that is as it stood `before` is the image's, not its.

    Raises Unfinished for what is no file, TransferError, InfraError.
    """
    wanted = {name: f"{folders.out}/{name}" for name in (TRAJECTORY, PREDICTION)}
    if folders.submission and (before is None or standing(engine, container, folders) != before):
        wanted[posixpath.basename(folders.submission)] = folders.submission
    handle = engine.as_sdk_container(container.id)
    names = []
    for name, path in wanted.items():
        target = folder / name
        with contextlib.suppress(FileNotFoundError):
            transfer.copy_from_container(handle, path, target, verbose=False, max_bytes=ARTIFACT_BYTES, max_entries=1)
        if target.is_symlink() or (target.exists() and not target.is_file()):
            target.unlink() if target.is_symlink() else shutil.rmtree(target)
            raise Unfinished(f"{name} is no regular file")
        if target.exists():
            target.chmod(0o644)
            names.append(name)
    return names


def inspect(folder: Path, task_id: str, submission: str | None, before: dict[str, Any] | None = None) -> None:
    """Are they what makes a task done? `before` as for `collect`. Raises Unfinished."""
    completion.inspect(folder, task_id)
    if submission:
        target = folder / posixpath.basename(submission)
        if not target.exists():
            own = ": the agent has not written the one that the image brings" if before else ""
            raise Unfinished(f"there is no {target.name}, which the task asks for{own}")
        submissions.inspect(target)
