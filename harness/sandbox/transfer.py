"""Files and folders into a container and out of it, through the engine's archive API.

Nothing is needed in the container: no shell, no tar, no mkdir. What comes out of one is hostile until it is unpacked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import secrets
import stat
import tarfile
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape, files
from taskgate.harness.base.errors import InfraError, PathIsDirectory, PathNotDirectory, PathNotFound, TransferError
from taskgate.harness.engine import archive_api, classification, sdk
from taskgate.harness.sandbox import _as_user, _pack, archive
from taskgate.harness.sandbox._owners import existing_attributes, owner_ids
from taskgate.harness.sandbox._pack import Attributes, Entry, Special
from taskgate.harness.sandbox._rename import PendingRename, can_rename
from taskgate.harness.sandbox.log import safe_log

# Links that lead to further links.
LINKS = 40


def copy_to_container(
    container: Any,
    source_path: str | os.PathLike[str],
    dest_path: str | os.PathLike[str],
    verbose: bool = True,
    *,
    user: str | None = None,
    owner: str | None = None,
    mode: int | None = None,
    special: Special = "refuse",
) -> None:
    """Copy a file or a folder of this host to `dest_path`, which is what it is called there, not where it goes into.

    Missing parents are created. A folder is merged into an existing one. Modes, links, hard links and empty folders are
    kept. What is new belongs to root; a file or folder that is there already keeps its owner and mode.

    `owner`: the owner of everything copied, including existing files and the parents created: `NAME`, `UID` or
    `NAME:GROUP`. `user`: write as this user of the container, who must be allowed to; that needs /bin/sh, and `tar` for
    a folder. `mode`: the permission bits of all files. `special`: "refuse" or "skip" pipes, sockets and devices.

    A single file, or a new folder, appears in one piece if the container runs and has `mv` (with `user`, folders only).
    Raises PathNotFound (no such source), other TransferErrors, CommandNotStarted (with `user`), InfraError.
    """
    if user is not None and owner is not None:
        raise ValueError("what a user writes is the user's: give `user` or `owner`")
    source, dest = Path(source_path), posixpath.normpath(str(dest_path))
    if not os.path.lexists(source):
        raise PathNotFound(f"there is no {source}")
    if not dest.startswith("/") or dest == "/":
        raise TransferError(f"{dest!r} is no absolute path of a file or folder in a container")
    packed = _pack.entries(source, special)
    if not packed:
        raise TransferError(f"{source} is neither file, folder nor link")
    if user is not None:
        _write_as(container, packed, dest, user, mode)
    else:
        _write(container, packed, dest, owner, mode)
    if verbose:
        safe_log(f"Copied {escape.line(str(source), 1000)} to {escape.line(dest, 1000)} in the container")


def copy_from_container(
    container: Any,
    source_path: str | os.PathLike[str],
    dest_path: str | os.PathLike[str],
    verbose: bool = True,
    *,
    follow: bool = False,
    special: Special = "refuse",
    max_bytes: int = archive.MAX_BYTES,
    max_entries: int = archive.MAX_ENTRIES,
) -> None:
    """Copy a file or folder of a container, running or not, to `dest_path`, which is what it is called here.

    Missing parents are created. A folder is merged into an existing one, entry by entry, once all of it has arrived;
    until then nothing of the destination is touched. Modes but for set-id bits, hard links, holes and empty folders are
    kept. Names that lead out are refused. `special`: "refuse" or "skip" pipes and devices (engines leave out sockets).

    Links are copied as they are. Warning: they lead wherever the container wanted, so that opening one of the copy may
    read a file of *this host*. Either check each path before you open it, or use `follow=True`: then the copy has no
    links but what they lead to in the container. A link that leads nowhere is left out then.

    Raises PathNotFound (no such source), other TransferErrors, NoSpace, InfraError. With `verbose`, errors are logged.
    """
    source, dest = posixpath.normpath(str(source_path)), Path(dest_path)
    try:
        _copy_out(container, source, dest, archive.Budget(max_bytes, max_entries), follow, special == "skip")
    except (TransferError, InfraError) as error:
        if verbose:
            safe_log(f"Copying {escape.line(source, 1000)} failed: {escape.line(str(error), 2000)}", logging.ERROR)
        raise
    if verbose:
        safe_log(f"Copied {escape.line(source, 1000)} of the container to {escape.line(str(dest), 1000)}")


# Out of a container.


def _copy_out(
    container: Any, source: str, dest: Path, budget: archive.Budget, follow: bool, skip_special: bool
) -> None:
    parent = dest.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # Beside the destination, so that what has arrived gets there by a rename.
        with files.temp_dir(parent, ".taskgate-copy-") as folder:
            fetching = _Fetching(container, budget, skip_special)
            fetching.fetch(source, folder / "copy", follow)
            archive.settle(folder / "copy", dest.absolute())
    except (TransferError, InfraError):
        raise
    except tarfile.TarError as error:
        raise TransferError(f"{source} came damaged: {error}") from error
    except OSError as error:
        raise files.trouble(dest, error) from error


class _Fetching:
    """One copy out of a container, with one budget for all that links add to it."""

    def __init__(self, container: Any, budget: archive.Budget, skip_special: bool) -> None:
        self._api, self._id = container.client.api, container.id
        self._budget, self._skip = budget, skip_special

    def fetch(self, source: str, target: Path, follow: bool, depth: int = 0) -> None:
        if follow and (real := self._resolved(source)) is not None:
            source = real
        try:
            with archive_api.tar(self._api, self._id, source) as tar:
                left = self._budget
                self._budget = archive.unpack(
                    tar, target, max_bytes=left.bytes, max_entries=left.entries, skip_special=self._skip
                )
        except PathNotFound:
            raise
        except FileNotFoundError as error:
            raise PathNotFound(f"there is no {source} in the container") from error
        if follow:
            self._replace_links(source, target, depth)

    def _replace_links(self, source: str, target: Path, depth: int) -> None:
        links = [path for path in (target, *target.rglob("*")) if path.is_symlink()]
        if links and depth >= LINKS:
            raise TransferError(f"{source}: links lead to links more than {LINKS} times")
        for link in links:
            inside = posixpath.normpath(posixpath.join(source, link.relative_to(target).as_posix()))
            link.unlink()
            real = self._resolved(inside)
            if real is None:
                safe_log(f"{escape.line(inside, 1000)} in the container leads nowhere: left out", logging.WARNING)
            elif inside == real or inside.startswith(real.rstrip("/") + "/"):
                raise TransferError(f"{inside} leads to a folder that holds it")
            else:
                self.fetch(real, link, True, depth + 1)

    def _resolved(self, path: str) -> str | None:
        """Where the container would find it; None if nothing is there."""
        for _ in range(LINKS):
            about = archive_api.stat(self._api, self._id, path)
            if about is None:
                return None
            if not int(about["mode"]) & archive_api.LINK:
                return path
            path = str(about["linkTarget"])
        return None


# Into a container.


def _write(container: Any, packed: list[Entry], dest: str, owner: str | None, mode: int | None) -> None:
    """Through the archive API, as root."""
    source = packed[0]
    ids = owner_ids(container, owner) if owner is not None else None
    folder, missing = _ground(container, posixpath.dirname(dest))
    parents = [posixpath.join(*missing[:count]) for count in range(1, len(missing) + 1)]
    name = posixpath.join(*missing, posixpath.basename(dest)) if missing else posixpath.basename(dest)
    there = _stat(container, posixpath.join(folder, name)) if not missing else None
    if there is not None and stat.S_ISDIR(_mode(there)) and not source.is_folder:
        raise PathIsDirectory(f"{dest} is a folder in the container, {source.path} is none")
    keep = existing_attributes(container, dest, [entry.name for entry in packed]) if there is not None else {}

    def attributes(entry: Entry) -> Attributes:
        old = keep.get(entry.name, Attributes())
        wanted = mode if entry.is_file and mode is not None else old.mode
        return Attributes(*(ids or old[:2]), wanted)

    def put(top: str) -> None:
        parent = Attributes(*(ids or (0, 0)))
        with classification.translated(f"writing to {folder}"):
            # A file never replaces a folder, and no folder a file.
            data = _pack.upload(packed, top, parents, parent, attributes)
            sdk.put_archive(container.client.api, container.id, folder, data, keep_folders=True)

    # `mv` onto a link, or onto a folder, would move into it.
    renamable = not missing and (there is None or not (source.is_folder or there.get("linkTarget")))
    if not (renamable and can_rename(container)):
        put(name)
        return
    temporary = f".{secrets.token_hex(8)}.taskgate"
    rename = PendingRename(container, posixpath.join(folder, temporary), posixpath.join(folder, name))
    try:
        put(temporary)
    except BaseException:
        with contextlib.suppress(InfraError):
            rename.discard()
        raise
    rename.finish()


def _write_as(container: Any, packed: list[Entry], dest: str, user: str, mode: int | None) -> None:
    source = packed[0]
    if source.is_file:
        try:
            with Path(source.path).open("rb") as file:
                wanted = stat.S_IMODE(source.about.st_mode) if mode is None else mode
                fresh = mode is not None or _stat(container, dest) is None
                _as_user.write(container, dest, file, user, wanted if fresh else None)
        except PermissionError as error:
            if isinstance(error, TransferError):
                raise
            raise TransferError(f"{source.path} can't be read: {error.strerror}") from error
    elif source.is_folder:
        tar = _pack.tar_stream(
            packed, "x", [], Attributes(), lambda entry: Attributes(mode=mode if entry.is_file else None)
        )
        _as_user.unpack(container, dest, tar, user)
    else:
        raise TransferError(f"{source.path} is a link: only files and folders can be written as a user")


def _ground(container: Any, path: str) -> tuple[str, list[str]]:
    """The deepest folder above that is there, and the names that are missing below it."""
    missing: list[str] = []
    while True:
        about = _stat(container, path)
        if about is not None:
            if not (stat.S_ISDIR(_mode(about)) or about.get("linkTarget")):
                raise PathNotDirectory(f"{path} is no folder in the container")
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
