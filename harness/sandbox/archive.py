"""Unpacks a hostile tar: nothing is written outside the target folder, no link is followed, and size is limited."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, NamedTuple

from taskgate.harness.base.errors import PathIsDirectory, PathNotDirectory, PathTooLarge, TransferError

MAX_BYTES = 64 << 30
MAX_ENTRIES = 1_000_000
CHUNK_BYTES = 1 << 20
# Linux's limits.
NAME_BYTES, PATH_BYTES = 255, 4096
# Blocks of nothing but zeros become holes.
HOLE_BYTES = 64 << 10
ZEROS = bytes(HOLE_BYTES)


def unpack(
    tar: tarfile.TarFile,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    skip_special: bool = False,
) -> Budget:
    """Unpack the single file or folder in `tar` (a stream) as `target`, which must not exist yet.

    The first entry is that file or folder; all others must be below it. Modes are kept except for set-id bits. Links
    are created unchanged, and no entry is written through one. `skip_special`: leave out pipes and devices. Returns the
    remaining budget. Raises TransferError (PathTooLarge past a limit); tarfile.TarError and OSError as they come.
    """
    unpacking = _Unpacking(target, max_bytes, max_entries)
    for member in tar:
        if skip_special and not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            continue
        source = tar.extractfile(member) if member.isreg() else None
        unpacking.add(member, source)
    unpacking.finish()
    return Budget(unpacking.bytes, unpacking.entries)


class Budget(NamedTuple):
    """How many more bytes and entries are allowed."""

    bytes: int
    entries: int


class _Unpacking:
    def __init__(self, target: Path, max_bytes: int, max_entries: int) -> None:
        self.target, self.bytes, self.entries = target, max_bytes, max_entries
        self.top: str | None = None
        # Folders get their modes last: one may forbid writing.
        self.modes: dict[Path, tuple[int, float]] = {}

    def add(self, member: tarfile.TarInfo, source: IO[bytes] | None) -> None:
        self.entries -= 1
        self.bytes -= max(0, member.size) if member.isreg() else 0
        if self.entries < 0 or self.bytes < 0:
            raise PathTooLarge("the archive holds more than is allowed")
        path = self.place(member.name)
        mode = member.mode & 0o777
        self.parents(path)
        if member.isdir():
            if not self.folder(path):
                self.clear(path)
                path.mkdir()
            path.chmod(0o700)
            self.modes[path] = (mode, member.mtime)
            return
        if self.folder(path):
            raise TransferError(f"{member.name!r} is a folder and something else at once")
        self.clear(path)
        if member.isreg():
            assert source is not None
            self.file(path, source, member)
        elif member.issym():
            if not 0 < len(os.fsencode(member.linkname)) < PATH_BYTES or "\0" in member.linkname:
                raise TransferError(f"{member.name!r} is a link to nowhere")
            path.symlink_to(member.linkname)
        elif member.islnk():
            linked = self.place(member.linkname)
            self.parents(linked)
            if not stat.S_ISREG(self.mode(linked)):
                raise TransferError(f"{member.name!r} links to {member.linkname!r}, which is no file of the archive")
            os.link(linked, path, follow_symlinks=False)
        else:
            raise TransferError(f"{member.name!r} is neither file, folder nor link")

    def finish(self) -> None:
        if self.top is None:
            raise TransferError("the archive is empty")
        for path, (mode, mtime) in reversed(self.modes.items()):
            os.utime(path, (mtime, mtime))
            path.chmod(mode)

    def place(self, name: str) -> Path:
        """The path that an entry is unpacked to."""
        clean = posixpath.normpath(name)
        parts = clean.split("/")
        if clean.startswith("/") or ".." in parts or "\0" in name:
            raise TransferError(f"{name!r} leads out of the archive")
        if len(os.fsencode(clean)) >= PATH_BYTES or any(len(os.fsencode(part)) > NAME_BYTES for part in parts):
            raise TransferError(f"{name[:80]!r}… is too long for a name")
        if self.top is None:
            self.top = parts[0]
        if parts[0] != self.top:
            raise TransferError(f"{name!r} lies beside {self.top!r}, not in it")
        return self.target.joinpath(*parts[1:])

    def parents(self, path: Path) -> None:
        """Create missing folders above an entry; refuse any that is not a real folder."""
        if path == self.target:
            return
        above = path.parent
        self.parents(above)
        if not self.folder(above):
            if self.mode(above):
                inside = str(above.relative_to(self.target))
                raise TransferError(f"{inside!r} is no folder, but something lies below it")
            above.mkdir()

    def file(self, path: Path, source: IO[bytes], member: tarfile.TarInfo) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as out:
            left = member.size
            while left:
                data = source.read(min(CHUNK_BYTES, left))
                if not data:
                    raise TransferError(f"{member.name!r} is cut short")
                left -= len(data)
                for start in range(0, len(data), HOLE_BYTES):
                    block = data[start : start + HOLE_BYTES]
                    if block == ZEROS:
                        out.seek(len(block), os.SEEK_CUR)
                    else:
                        out.write(block)
            out.truncate(member.size)
            os.fchmod(out.fileno(), member.mode & 0o777)
            os.utime(out.fileno(), (member.mtime, member.mtime))

    @staticmethod
    def mode(path: Path) -> int:
        try:
            return path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def folder(self, path: Path) -> bool:
        return stat.S_ISDIR(self.mode(path))

    def clear(self, path: Path) -> None:
        if self.mode(path):
            path.unlink()


def settle(fresh: Path, dest: Path) -> None:
    """Move what was unpacked to its destination on the same file system; a folder is merged into one that is there.

    Every conflict of a folder with something else is found before anything is moved. Raises TransferError, OSError.
    """
    _compare(fresh, dest)
    _move(fresh, dest)


def _kind(path: Path) -> int:
    return stat.S_IFMT(_Unpacking.mode(path))


def _compare(fresh: Path, dest: Path) -> None:
    there = _kind(dest)
    if stat.S_ISDIR(_kind(fresh)):
        if there and not stat.S_ISDIR(there):
            raise PathNotDirectory(f"{dest} is there and is no folder")
        for entry in fresh.iterdir() if there else ():
            _compare(entry, dest / entry.name)
    elif stat.S_ISDIR(there):
        raise PathIsDirectory(f"{dest} is a folder here, and none in the container")


def _move(fresh: Path, dest: Path) -> None:
    if not stat.S_ISDIR(_kind(fresh)):
        fresh.replace(dest)
        return
    mode = stat.S_IMODE(fresh.lstat().st_mode)
    # A folder may forbid what moving it or its entries needs.
    fresh.chmod(0o700)
    if _kind(dest):
        dest.chmod(0o700)
        for entry in list(fresh.iterdir()):
            _move(entry, dest / entry.name)
        shutil.rmtree(fresh)
    else:
        fresh.replace(dest)
    dest.chmod(mode)
