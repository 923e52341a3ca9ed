"""A file or folder of this host as a tar stream, in pieces, in constant memory."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from taskgate.harness.base.errors import PathNotPermitted, TransferError

Special = Literal["refuse", "skip"]
CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 512


class Attributes(NamedTuple):
    """Owner and permission bits of a file in a container; `mode` None keeps those of the source."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` is relative to the source, empty for the source itself."""

    name: str
    path: Path
    about: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.about.st_mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.about.st_mode)


def entries(source: Path, special: Special) -> list[Entry]:
    """All that a copy of `source` consists of, folders before what is in them.

    Raises PathNotPermitted, TransferError (also for a pipe, socket or device, if `special` is "refuse").
    """
    collected: list[Entry] = []
    try:
        _collect("", source, special, collected)
    except PermissionError as error:
        raise PathNotPermitted(f"{error.filename or source} can't be read: {error.strerror or error}") from error
    except OSError as error:
        raise TransferError(f"{error.filename or source} can't be read: {error.strerror or error}") from error
    return collected


def _collect(name: str, path: Path, special: Special, collected: list[Entry]) -> None:
    entry = Entry(name, path, path.lstat())
    mode = entry.about.st_mode
    if not (entry.is_file or entry.is_folder or stat.S_ISLNK(mode)):
        if special == "skip":
            return
        raise TransferError(f"{path} is neither file, folder nor link")
    if entry.is_file and not os.access(path, os.R_OK):
        raise PathNotPermitted(f"{path} can't be read: permission denied")
    collected.append(entry)
    if entry.is_folder:
        for below in sorted(path.iterdir()):
            _collect(f"{name}/{below.name}" if name else below.name, below, special, collected)


def tar_stream(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Iterator[bytes]:
    """The tar of `found`, named `top`, below folders `parents` that are made.

    Raises TransferError if a file changes meanwhile.
    """
    pieces, size = [], 0
    for piece in _pieces(collected, top, parents, parent, attributes):
        pieces.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            # A large piece is not copied once more.
            yield from pieces if len(piece) == CHUNK_BYTES else [b"".join(pieces)]
            pieces, size = [], 0
    yield b"".join(pieces) + bytes(2 * BLOCK_BYTES)


def _pieces(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Iterator[bytes]:
    for path in parents:
        member = tarfile.TarInfo(path)
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        member.uid, member.gid = parent.uid, parent.gid
        yield _header(member)
    first: dict[tuple[int, int], str] = {}
    for entry in collected:
        name = f"{top}/{entry.name}" if entry.name else top
        member = _member(entry, name, attributes(entry))
        key = entry.about.st_dev, entry.about.st_ino
        if entry.is_file and entry.about.st_nlink > 1:
            if key in first:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first[key], 0
            first.setdefault(key, name)
        yield _header(member)
        if member.isreg():
            yield from _content(entry)


def _member(entry: Entry, name: str, wanted: Attributes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(entry.about.st_mode) if wanted.mode is None else wanted.mode
    member.uid, member.gid, member.mtime = wanted.uid, wanted.gid, int(entry.about.st_mtime)
    if entry.is_folder:
        member.type = tarfile.DIRTYPE
    elif entry.is_file:
        member.size = entry.about.st_size
    else:
        member.type, member.linkname = tarfile.SYMTYPE, str(entry.path.readlink())
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    # GNU's format takes every name and size as it is; pax would double the headers for a time with a fraction.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _content(entry: Entry) -> Iterator[bytes]:
    left = entry.about.st_size
    try:
        with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            while left:
                data = file.read(min(CHUNK_BYTES, left))
                if not data:
                    raise TransferError(f"{entry.path} became shorter while it was copied")
                left -= len(data)
                yield data
    except OSError as error:
        raise TransferError(f"{entry.path} can't be read: {error.strerror or error}") from error
    if rest := entry.about.st_size % BLOCK_BYTES:
        yield bytes(BLOCK_BYTES - rest)
