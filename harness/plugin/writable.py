"""Can the results be written? Asked before anything is judged, without leaving a trace."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError

# A full disk may have room again when the run ends.
FULL = (errno.ENOSPC, errno.EDQUOT)


def check(folders: Mapping[str, Path], files_: Mapping[str, str | None]) -> None:
    """`folders` and `files_` by the option that names them. Raises UsageError."""
    for option, folder in folders.items():
        if problem := _problem(folder):
            raise UsageError(problem, field=option)
    for option, name in files_.items():
        if name and (problem := _file_problem(Path(name).expanduser())):
            raise UsageError(problem, field=option)


def skip_list_problem(skip_list: str) -> str | None:
    """Why a text file can't be replaced; None where it can, or where it is a database."""
    if "://" in skip_list:
        return None
    path = Path(skip_list)
    try:
        target = path.resolve()
        target.parent.stat()
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError):
        # Reading it says more.
        return None
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        return None if error.errno in FULL else f"{path}: can't be written: {error.strerror}"
    return None


def _file_problem(path: Path) -> str | None:
    if files.is_folder(path):
        return f"{path} can't be written: it is a directory"
    return _problem(path.parent)


def _problem(folder: Path) -> str | None:
    """Why no file can be made in `folder`, which need not exist yet."""
    nearest = folder
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            return f"{folder} can't be written: {nearest} is not a directory"
        tempfile.TemporaryFile(dir=nearest).close()
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) in FULL:
            return None
        return f"{folder} can't be written: {getattr(error, 'strerror', None) or error}"
    return None
