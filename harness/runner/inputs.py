"""What a task is given to read: a folder of this host, without links.

A link that stays inside `--inputs` arrives as what it leads to. One that leads out is refused: a task set that somebody
else made must not hand this host's files to an agent.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.names import folder_name

FIELD = "--inputs"
# Folders within folders; links in a circle end here at the latest.
MAX_DEPTH = 100


class Inputs:
    """The folder given as `--inputs`, with a folder for each task."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, task_id: str) -> Path | None:
        """The task's folder; None where it has none. Raises UsageError where it leads out of the root."""
        folder = self.root / folder_name(task_id)
        try:
            if not os.path.lexists(folder):
                return None
            target = self._inside(folder)
        except OSError as error:
            raise UsageError(f"{folder} can't be read: {error.strerror or error}", field=FIELD) from error
        return target if target.is_dir() else None

    def walk(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Everything below `folder`, folders before what is in them: relative name, and the real file or folder.

        Raises UsageError for links that lead out, lead nowhere or go in a circle, and for pipes, sockets and devices.
        """
        try:
            yield from self._walk(folder, "", (folder.resolve(),))
        except OSError as error:
            raise UsageError(f"{error.filename or folder} can't be read: {error.strerror}", field=FIELD) from error

    def digest(self, folder: Path) -> str:
        """A hash of all names and contents. Raises UsageError."""
        total = hashlib.sha256()
        for name, path in self.walk(folder):
            if path.is_dir():
                continue
            try:
                with path.open("rb") as file:
                    data = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise UsageError(f"{path} can't be read: {error.strerror}", field=FIELD) from error
            total.update(f"{name} {data}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def _walk(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
        for entry in sorted(folder.iterdir()):
            name, path = f"{prefix}{entry.name}", self._inside(entry)
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UsageError(f"{entry} is neither a file nor a folder", field=FIELD)
            yield name, path
            if stat.S_ISDIR(mode):
                if path in above or len(above) > MAX_DEPTH:
                    raise UsageError(f"{entry} is a link to a folder that it is in", field=FIELD)
                yield from self._walk(path, f"{name}/", (*above, path))

    def _inside(self, entry: Path) -> Path:
        """Where an entry leads. Raises UsageError, OSError."""
        try:
            target = entry.resolve(strict=True)
        except FileNotFoundError as error:
            raise UsageError(f"{entry} is a link to nothing", field=FIELD) from error
        except RuntimeError as error:
            # Before Python 3.13, what a circle of links raises.
            raise UsageError(f"{entry} is a link in a circle", field=FIELD) from error
        if not target.is_relative_to(self.root.resolve()):
            raise UsageError(f"{entry} is a link that leads out of {self.root}", field=FIELD)
        return target
