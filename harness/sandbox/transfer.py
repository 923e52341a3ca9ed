"""Files and folders into a container and out of it, through the engine's archive API.

Nothing is needed in the container: no shell, no tar, no mkdir. What comes out of one is hostile until it is unpacked.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

import docker.errors

from taskgate.harness.base import escape, files
from taskgate.harness.base.errors import InfraError, TransferError
from taskgate.harness.engine import archive_api, classification
from taskgate.harness.sandbox import archive
from taskgate.harness.sandbox.log import safe_log


def copy_to_container(
    container: Any, source_path: str | os.PathLike[str], dest_path: str | os.PathLike[str], verbose: bool = True
) -> None:
    """Copy a file or a folder of this host to `dest_path`, which is what it is called there, not where it goes into.

    Missing parents are made. A folder is merged into one that is there. Modes, links, hard links and empty folders
    are kept, owners are not: all belongs to root. The source is read whole before the first byte is sent; a single
    file, or a new folder, appears in one piece where the container runs and has `mv`.
    Raises FileNotFoundError (no such source), TransferError, InfraError.
    """
    source, dest = Path(source_path), posixpath.normpath(str(dest_path))
    if not os.path.lexists(source):
        raise FileNotFoundError(f"there is no {source}")
    if not dest.startswith("/") or dest == "/":
        raise TransferError(f"{dest!r} is no absolute path of a file or folder in a container")
    folder, missing = _ground(container, posixpath.dirname(dest))
    name = posixpath.join(*missing, posixpath.basename(dest)) if missing else posixpath.basename(dest)
    there = _stat(container, posixpath.join(folder, name)) if not missing else None
    aside = None
    if not missing and (there is None or not (source.is_dir() and not source.is_symlink())):
        if there is not None and stat.S_ISDIR(_mode(there)):
            raise TransferError(f"{dest} is a folder in the container, {source} is none")
        # A move onto a link would go to where it leads.
        linked = bool(there and there.get("linkTarget"))
        aside = f".{secrets.token_hex(8)}.taskgate" if not linked and _can_move(container) else None
    with tempfile.TemporaryFile() as file:
        try:
            _pack(source, aside or name, missing, file)
        except OSError as error:
            raise TransferError(f"{source} can't be read: {error}") from error
        try:
            _put(container, folder, file)
            if aside:
                _move(container, posixpath.join(folder, aside), posixpath.join(folder, name))
        except BaseException:
            if aside:
                _forget(container, posixpath.join(folder, aside))
            raise
    if verbose:
        safe_log(f"Copied {escape.line(str(source), 1000)} to {escape.line(dest, 1000)} in the container")


def copy_from_container(
    container: Any,
    source_path: str | os.PathLike[str],
    dest_path: str | os.PathLike[str],
    verbose: bool = True,
    *,
    max_bytes: int = archive.MAX_BYTES,
    max_entries: int = archive.MAX_ENTRIES,
) -> None:
    """Copy a file or folder of a container, running or not, to `dest_path`, which is what it is called here.

    Missing parents are made. A folder is merged into one that is there, entry by entry, once all of it has arrived;
    until then nothing of the destination is touched. Modes but for set-id bits, links (as they are, never followed),
    hard links, holes and empty folders are kept. Devices, sockets and names that lead out are refused.
    Raises FileNotFoundError (no such source), TransferError, NoSpace, InfraError.
    """
    source, dest = posixpath.normpath(str(source_path)), Path(dest_path)
    parent = dest.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # Beside the destination, so that what has arrived gets there by a rename.
        with files.temp_dir(parent, ".taskgate-copy-") as folder:
            fresh = folder / "copy"
            with archive_api.tar(container.client.api, container.id, source) as tar:
                archive.unpack(tar, fresh, max_bytes=max_bytes, max_entries=max_entries)
            archive.settle(fresh, dest.absolute())
    except tarfile.TarError as error:
        raise TransferError(f"{source} came damaged: {error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise files.trouble(dest, error) from error
    if verbose:
        safe_log(f"Copied {escape.line(source, 1000)} of the container to {escape.line(str(dest), 1000)}")


def _ground(container: Any, path: str) -> tuple[str, list[str]]:
    """The deepest folder above that is there, and the names that are missing below it."""
    missing: list[str] = []
    while True:
        about = _stat(container, path)
        if about is not None:
            if not (stat.S_ISDIR(_mode(about)) or about.get("linkTarget")):
                raise TransferError(f"{path} is no folder in the container")
            return path, missing
        if path == "/":
            raise TransferError("the container has no root folder")
        missing.insert(0, posixpath.basename(path))
        path = posixpath.dirname(path)


def _stat(container: Any, path: str) -> dict[str, Any] | None:
    return archive_api.stat(container.client.api, container.id, path)


def _mode(about: dict[str, Any]) -> int:
    """Go's file mode has a bit of its own for folders."""
    return stat.S_IFDIR if int(about["mode"]) & (1 << 31) else stat.S_IFREG


def _pack(source: Path, name: str, missing: list[str], file: IO[bytes]) -> None:
    def neutral(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise TransferError(f"{member.name} is neither file, folder nor link")
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(1, len(missing) + 1):
            above = tarfile.TarInfo(posixpath.join(*missing[:number]))
            above.type, above.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(above)
        tar.add(source, name, filter=neutral)
    file.seek(0)


def _put(container: Any, folder: str, file: IO[bytes]) -> None:
    api = container.client.api
    with classification.translated(f"writing to {folder}"):
        # The SDK's put_archive does not know the parameter that keeps a file from replacing a folder.
        answer = api._put(
            api._url("/containers/{0}/archive", container.id),
            params={"path": folder, "noOverwriteDirNonDir": "true"},
            data=file,
        )
        api._raise_for_status(answer)


def _can_move(container: Any) -> bool:
    with contextlib.suppress(docker.errors.APIError):
        return _run(container, ["mv", "--help"]) in (0, 1)
    return False


def _move(container: Any, old: str, new: str) -> None:
    with classification.translated(f"moving {new}"):
        # The name of a folder that is there would be where it goes into; a file takes the place of a file.
        status = _run(container, ["mv", "-f", "--", old, new])
    if status:
        raise TransferError(f"{new} could not be put in its place (status {status})")


def _forget(container: Any, path: str) -> None:
    with contextlib.suppress(docker.errors.APIError, InfraError):
        _run(container, ["rm", "-rf", "--", path])


def _run(container: Any, argv: list[str]) -> int:
    done = container.exec_run(argv, user="0")
    return int(done.exit_code)
