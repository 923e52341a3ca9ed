"""Files that are written as a whole or not at all, and append-only files that survive a kill."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from taskgate.harness.base.errors import InfraError, NoSpace

# A record is a few kilobytes; a user's own check may write more.
LINE_BYTES = 16 << 20
# A million of them.
DOCUMENT_BYTES = 1 << 30


def write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace `path` by rename, its mode kept, a symlink followed. Raises OSError; the old file stays then.

    Anything other than a file (/dev/null, /dev/stdout, a pipe) is written to, not replaced. `data` may come in pieces,
    so that a large document is never in memory as a whole.
    """
    pieces = [data] if isinstance(data, bytes) else data
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as device:
            device.writelines(pieces)
        return
    path = resolved(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The prefix spares a user's dated backup (.NAME.20261125).
    prefix = f".{path.name[:100]}.taskgate-"
    _remove_partial_files(path.parent, prefix)
    handle, name = _partial_file(path.parent, prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


# The random part of a name that mkstemp or mkdtemp makes.
RANDOM = "????????"


def _partial_file(folder: Path, prefix: str) -> tuple[int, str]:
    """A new file, locked by its writer so that other processes see that it is in use. Raises OSError."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Another process may have removed it as abandoned before it was locked.
        if Path(name).exists():
            return handle, name
        os.close(handle)


def _remove_partial_files(folder: Path, prefix: str) -> None:
    """Remove what killed writers of this file left behind."""
    for path in folder.glob(f"{glob.escape(prefix)}{RANDOM}"):
        with contextlib.suppress(OSError), _abandoned(path):
            path.unlink()


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[None]:
    """Hold the lock of a file that no running process has locked. Raises OSError, also if one has."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def temp_file(folder: Path, prefix: str) -> Iterator[Path]:
    """An empty file in `folder`, to be filled and moved. Removed if it was not moved; the next call does so for killed
    processes.

    Raises OSError.
    """
    _remove_partial_files(folder, prefix)
    handle, name = _partial_file(folder, prefix)
    try:
        Path(name).chmod(0o666 & ~_umask())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


# Marks a temporary folder as ours; locked while its process runs.
LOCK = ".taskgate-lock"


@contextlib.contextmanager
def temp_dir(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `folder`, removed at the end; the next call does so for killed processes. Raises OSError."""
    _remove_temp_dirs(folder, prefix)
    while True:
        created = Path(tempfile.mkdtemp(dir=folder, prefix=prefix))
        handle = os.open(created / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Another process may have removed it as abandoned before it was locked.
        if (created / LOCK).exists():
            break
        os.close(handle)
    try:
        yield created
    finally:
        shutil.rmtree(created, ignore_errors=True)
        os.close(handle)


def _remove_temp_dirs(folder: Path, prefix: str) -> None:
    for path in folder.glob(f"{glob.escape(prefix)}{RANDOM}/{LOCK}"):
        with contextlib.suppress(OSError), _abandoned(path):
            shutil.rmtree(path.parent, ignore_errors=True)


def _umask() -> int:
    """Read without setting it: the threads of a process share it, and a file that another thread creates meanwhile
    would be open to everybody."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return _UMASK_AT_START


def _umask_at_start() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# Where there is no /proc.
_UMASK_AT_START = _umask_at_start()


def is_file(path: Path) -> bool:
    """Is it a file that this user can see? pathlib raises for a name that is too long and for a forbidden folder."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """As `is_file`."""
    try:
        return path.is_dir()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """The path with links resolved. Raises OSError, also for a loop of links, a RuntimeError before Python 3.13."""
    try:
        return path.resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


class Lines:
    """An append-only file of JSON objects, one a line. A partial last line of a killed run is ended first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def append(self, document: dict[str, Any]) -> None:
        """A single write, so that only a last line can be partial. Raises InfraError, NoSpace."""
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                size = os.fstat(self._handle).st_size
                if size and os.pread(self._handle, 1, size - 1) != b"\n":
                    os.write(self._handle, b"\n")
            data = (json.dumps(document) + "\n").encode()
            if os.write(self._handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # A part of the line may be there: the next append opens the file anew and ends it first.
            self.close()
            raise trouble(self.path, error) from error

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of such a file. Damaged lines are skipped; a missing file has none. Raises InfraError."""
    try:
        # A pipe would wait for ever.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InfraError(f"{path}: not a regular file")
        with path.open("rb") as file:
            for line in _whole(file):
                try:
                    document = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(document, dict):
                    yield document
    except FileNotFoundError:
        return
    except OSError as error:
        raise trouble(path, error) from error


def read_document(path: Path) -> Any:
    """The content of a JSON file. Raises OSError (FileNotFoundError if it is missing), ValueError, RecursionError."""
    # A pipe would wait for ever.
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(DOCUMENT_BYTES + 1)
    if len(data) > DOCUMENT_BYTES:
        raise ValueError(f"it is larger than {DOCUMENT_BYTES >> 20} MiB")
    return json.loads(data)


def _whole(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, without those that are too long to be ours."""
    cut = False
    while line := file.readline(LINE_BYTES):
        end = line.endswith(b"\n")
        if not cut and (end or len(line) < LINE_BYTES):
            yield line
        cut = not end


def trouble(path: Path, error: OSError) -> InfraError:
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else InfraError
    return kind(f"{path}: {error.strerror or error}")
