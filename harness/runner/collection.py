"""What an agent has left, out of its container."""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from taskgate.harness.base.errors import InfraError, NotCollected
from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import completion, submissions
from taskgate.harness.runner.completion import Ending, Unfinished
from taskgate.harness.runner.folders import Folders
from taskgate.harness.sandbox import transfer

T = TypeVar("T")

ARTIFACT_BYTES = 8 << 30
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0
# The engine's words for a path that it can't follow.
LOOP = ("too many levels of symbolic links", "too many links", "link loop")


def standing(engine: Engine, container_id: str, folders: Folders) -> dict[str, Any] | None:
    """What the container has as the task's submission, with its time; None where it has none. Raises InfraError."""
    if not folders.submission:
        return None
    try:
        return engine.stat(container_id, folders.submission)
    except InfraError as error:
        # A loop of links is nothing that could be fetched. Of anything else nobody knows what it hides.
        if any(words in str(error).lower() for words in LOOP):
            return None
        raise


def collect(
    engine: Engine, container_id: str, folder: Path, folders: Folders, before: dict[str, Any] | None
) -> list[str]:
    """Fetch its files into `folder`; their names. A submission that is as it stood `before` is the image's, not its.

    Raises Unfinished for what is no file, TransferError, InfraError.
    """
    wanted = {name: f"{folders.out}/{name}" for name in (TRAJECTORY, PREDICTION)}
    if folders.submission and (before is None or standing(engine, container_id, folders) != before):
        wanted[posixpath.basename(folders.submission)] = folders.submission
    handle = engine.as_sdk_container(container_id)
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


def patiently(action: Callable[[], T], *, seconds: float, stopping: threading.Event, note: Callable[[str], None]) -> T:
    """Do what an engine or a full disk may prevent for a while, again and again for up to `seconds`.

    The agent has ended and its container does not change any more: nothing is lost by waiting. Raises NotCollected
    where it is in vain, or where the run is being stopped: the container is to be kept then.
    """
    deadline, pause = time.monotonic() + seconds, PAUSE_SECONDS
    while True:
        try:
            return action()
        except InfraError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotCollected(f"its files can't be fetched, tried for {seconds:g} s: {error}") from error
            note(f"its files can't be fetched yet: {error}")
            if stopping.wait(min(pause, left)):
                raise NotCollected(f"its files can't be fetched yet: {error}", later=True) from error
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


def assess(
    folder: Path, task_id: str, submission: str | None, ending: Ending, before: dict[str, Any] | None = None
) -> None:
    """Are the files in `folder` a result? `before` as for `collect`. Raises Unfinished."""
    try:
        completion.assess(completion.read(folder, task_id), ending)
        if submission:
            _inspect_submission(folder / posixpath.basename(submission), before)
    except Unfinished as error:
        prefix = str(ending)
        if not prefix or str(error).startswith(prefix):
            raise
        raise Unfinished(f"{prefix}: {error}", party=error.party) from error


def _inspect_submission(target: Path, before: dict[str, Any] | None) -> None:
    if not target.exists():
        own = ": the agent has not written the one that the image brings" if before else ""
        raise Unfinished(f"there is no {target.name}, which the task asks for{own}")
    submissions.inspect(target)
