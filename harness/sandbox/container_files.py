"""Single files of a container: looked at, read and written."""

from __future__ import annotations

import posixpath
import stat as modes
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import PathIsDirectory, PathNotFound, PathTooLarge, TransferError
from taskgate.harness.engine import archive_api
from taskgate.harness.sandbox import _as_user
from taskgate.harness.sandbox.transfer import copy_to_container

READ_BYTES = 100 * 1024 * 1024
LINKS = 40
# Go's bits of a file mode, and the words for them.
_KINDS = ((1 << 31, "folder"), (1 << 27, "link"), (1 << 26, "device"), (1 << 25, "pipe"), (1 << 24, "socket"))
# Go's set-user-ID, set-group-ID and sticky bits.
_SPECIAL_BITS = ((1 << 23, modes.S_ISUID), (1 << 22, modes.S_ISGID), (1 << 20, modes.S_ISVTX))


@dataclass(frozen=True, slots=True)
class FileStat:
    """What is at a path of a container. `kind`: file, folder, link, device, pipe or socket. `size` in bytes; `mode`:
    permission bits; `mtime` as the engine writes it (RFC 3339); `target`: where a link leads in the container."""

    path: str
    kind: str
    size: int
    mode: int
    mtime: str
    target: str = ""


def stat(container: Any, path: str, *, follow: bool = True) -> FileStat | None:
    """What is at `path`; None if nothing is, or if a link leads nowhere. The container need not run. Raises InfraError.

    Asked as root, of the engine: a tmpfs that the container mounted for itself is not seen.
    """
    for _ in range(LINKS):
        about = archive_api.stat(container.client.api, container.id, posixpath.normpath(path))
        if about is None:
            return None
        entry = _described(path, about)
        if entry.kind != "link" or not follow:
            return entry
        path = entry.target
    return None


def exists(container: Any, path: str, *, follow: bool = True) -> bool:
    """Is anything at `path`? Raises InfraError."""
    return stat(container, path, follow=follow) is not None


def read_bytes(container: Any, path: str, *, user: str | None = None, limit: int = READ_BYTES) -> bytes:
    """The content of a regular file, links followed inside the container.

    As root and without any program of the container; with `user`, as that user (needs /bin/sh and `cat`).
    Raises PathNotFound, PathIsDirectory, PathTooLarge (more than `limit` bytes), other TransferErrors, InfraError; with
    `user` also PathNotPermitted and CommandNotStarted.
    """
    if user is not None:
        return _as_user.read(container, path, user, limit)
    about = stat(container, path)
    if about is None:
        raise PathNotFound(f"there is no {path} in the container")
    if about.kind == "folder":
        raise PathIsDirectory(f"{path} is a directory in the container")
    if about.kind != "file":
        raise TransferError(f"{path} is not a regular file, but a {about.kind}")
    if about.size > limit:
        raise PathTooLarge(f"{path} has {about.size:,} bytes, more than {limit:,}")
    try:
        with archive_api.tar(container.client.api, container.id, about.path) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member and member.isreg() else None
            data = file.read(limit + 1) if file else b""
    except tarfile.TarError as error:
        raise TransferError(f"{path} came damaged: {error}") from error
    if len(data) > limit:
        raise PathTooLarge(f"{path} has more than {limit:,} bytes")
    return data


def read_text(
    container: Any, path: str, *, user: str | None = None, limit: int = READ_BYTES, encoding: str = "utf-8"
) -> str:
    """As `read_bytes`, decoded; line ends stay as they are. Raises UnicodeDecodeError as well."""
    return read_bytes(container, path, user=user, limit=limit).decode(encoding)


def write_bytes(
    container: Any,
    path: str,
    data: bytes,
    *,
    user: str | None = None,
    owner: str | None = None,
    mode: int | None = None,
) -> None:
    """Write a file; missing parents are made, and an existing file keeps its owner and mode.

    `user`, `owner`, `mode` and the errors are those of `copy_to_container`; a new file has mode 0644.
    """
    if user is not None:
        if owner is not None:
            raise ValueError("what a user writes is the user's: give `user` or `owner`")
        _as_user.write(container, path, data, user, mode)
        return
    with tempfile.TemporaryDirectory(prefix="taskgate-write-") as folder:
        source = Path(folder, "file")
        source.write_bytes(data)
        source.chmod(0o644)
        copy_to_container(container, source, path, verbose=False, owner=owner, mode=mode)


def write_text(
    container: Any,
    path: str,
    text: str,
    *,
    user: str | None = None,
    owner: str | None = None,
    mode: int | None = None,
    encoding: str = "utf-8",
) -> None:
    """As `write_bytes`, encoded; line ends stay as they are."""
    write_bytes(container, path, text.encode(encoding), user=user, owner=owner, mode=mode)


def _described(path: str, about: dict[str, Any]) -> FileStat:
    mode = int(about["mode"])
    kind = next((word for bit, word in _KINDS if mode & bit), "file")
    bits = mode & 0o777
    for bit, special in _SPECIAL_BITS:
        bits |= special if mode & bit else 0
    target = str(about.get("linkTarget") or "")
    return FileStat(path, kind, int(about["size"]), bits, str(about["mtime"]), target)
