"""What an agent has left, out of its container."""

from __future__ import annotations

import contextlib
import posixpath
import shutil
from pathlib import Path
from types import SimpleNamespace

from taskgate.harness import transfer
from taskgate.harness.container import Container
from taskgate.harness.engine import Engine
from taskgate.harness.runner import completion, submissions
from taskgate.harness.runner.completion import Unfinished
from taskgate.harness.runner.results import PREDICTION, TRAJECTORY
from taskgate.harness.runner.spec import OUT_DIR

ARTIFACT_BYTES = 8 << 30


def collect(engine: Engine, container: Container, folder: Path, submission: str | None) -> list[str]:
    """Fetch its files into `folder`; their names. Raises Unfinished for what is no file, TransferError, InfraError."""
    wanted = {TRAJECTORY: f"{OUT_DIR}/{TRAJECTORY}", PREDICTION: f"{OUT_DIR}/{PREDICTION}"}
    if submission:
        wanted[posixpath.basename(submission)] = submission
    # As the docker SDK's containers look to the transfer layer.
    handle = SimpleNamespace(id=container.id, client=SimpleNamespace(api=engine.api))
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


def inspect(folder: Path, task_id: str, submission: str | None) -> None:
    """Are they what makes a task done? Raises Unfinished."""
    completion.inspect(folder, task_id)
    if submission:
        target = folder / posixpath.basename(submission)
        if not target.exists():
            raise Unfinished(f"there is no {target.name}, which the task asks for")
        submissions.inspect(target)
