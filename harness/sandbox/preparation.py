"""The state in which a task starts: files that are copied in, and a git reference that is checked out."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from taskgate.harness.base.errors import UsageError
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.sandbox.shell import Result, ShellDied, ShellStuck
from taskgate.harness.tasks.task import Task

UPLOAD_BYTES = 4 << 30
SECONDS = 300.0
CHECKOUT = """
cd "$1" && exec "$3" -c "safe.directory=*" -c advice.detachedHead=false checkout --quiet "$2" -- 2>&1
"""


class Runner(Protocol):
    """What `prepare` needs of a container: its id, and a shell in it."""

    id: str

    def run(self, script: str, *args: str, seconds: float, shown: str | None = None) -> Result: ...


def prepare(engine: Engine, container: Runner, task: Task, image: Image, git: Callable[[], str]) -> str | None:
    """Bring a started container into the state that the task asks for; what went wrong, if anything did.

    `git`: where the program is. Raises UsageError for a folder of this host that can't be read, InfraError.
    """
    if task.upload:
        _upload(engine, container.id, Path(task.upload), task.start_dir(image.workdir))
    if task.checkout is None:
        return None
    if task.repo_path is None:
        return "checkout needs repo_path: which repository?"
    try:
        shown = f"cd {task.repo_path} && git checkout {task.checkout}"
        result = container.run(CHECKOUT, task.repo_path, task.checkout, git(), seconds=SECONDS, shown=shown)
    except (ShellDied, ShellStuck):
        return f"git checkout {task.checkout} did not end"
    if result.code:
        last = result.out.strip().splitlines()[-1:] or [f"status {result.code}"]
        return f"git checkout {task.checkout} failed: {last[0][:500]}"
    return None


def _upload(engine: Engine, container: str, folder: Path, target: str) -> None:
    if not engine.stat(container, target):
        # The check of the work directory says so.
        return
    with tempfile.TemporaryFile() as file:
        try:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for path in _entries(folder):
                    tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_as_root)
        except OSError as error:
            raise UsageError(f"{folder} can't be read: {error}", field="upload") from error
        file.seek(0)
        engine.put_tar(container, target, file, keep_folders=True, doing="copying files into a container")


def _entries(folder: Path) -> Iterator[Path]:
    """All below a folder, links not followed. Raises UsageError for more than a container should get."""
    total = 0
    for place, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(place) / name
            total += path.lstat().st_size
            if total > UPLOAD_BYTES:
                raise UsageError(f"{folder} holds more than {UPLOAD_BYTES >> 30} GiB", field="upload")
            yield path


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """With the owner of files in an image; without pipes and devices."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry if entry.isfile() or entry.isdir() or entry.issym() else None
