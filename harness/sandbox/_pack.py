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
CHUNK_BYTES = 256 << 10
# Small files are sent in smaller chunks, so that the engine unpacks some while others are being read.
SMALL_CHUNK_BYTES = 128 << 10
# Up to so many entries, the length of the whole tar is worked out beforehand.
MEASURED_ENTRIES = 100
BLOCK_BYTES = 512
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Attributes(NamedTuple):
    """Owner and permission bits of a file in a container; `mode` None keeps those of the source."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` is relative to the source, empty for the source itself."""

    name: str
    path: str
    about: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.about.st_mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.about.st_mode)


def entries(source: Path, special: Special) -> list[Entry]:
    """Everything that a copy of `source` consists of, folders before their contents.

    Raises PathNotPermitted, TransferError (also for a pipe, socket or device, if `special` is "refuse").
    """
    collected: list[Entry] = []
    try:
        _collect("", str(source), os.lstat(source), special, collected)
    except PermissionError as error:
        raise PathNotPermitted(f"{error.filename or source} can't be read: {error.strerror or error}") from error
    except OSError as error:
        raise TransferError(f"{error.filename or source} can't be read: {error.strerror or error}") from error
    return collected


def _collect(name: str, path: str, about: os.stat_result, special: Special, collected: list[Entry]) -> None:
    entry = Entry(name, path, about)
    if not (entry.is_file or entry.is_folder or stat.S_ISLNK(about.st_mode)):
        if special == "skip":
            return
        raise TransferError(f"{path} is neither file, folder nor link")
    if entry.is_file and not os.access(path, os.R_OK):
        raise PathNotPermitted(f"{path} can't be read: permission denied")
    collected.append(entry)
    if entry.is_folder:
        with os.scandir(path) as scan:
            children = sorted(scan, key=lambda child: child.name)
        for child in children:
            below = f"{name}/{child.name}" if name else child.name
            _collect(below, child.path, child.stat(follow_symlinks=False), special, collected)


class Measured:
    """Chunks with a known total length, which an HTTP client sends as they are, without a copy for each."""

    def __init__(self, chunks: Iterator[bytes], length: int) -> None:
        self._chunks, self._length = chunks, length

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def __len__(self) -> int:
        return self._length


def upload(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Measured | Iterator[bytes]:
    """As `tar_stream`, for the body of a request."""
    chunks = tar_stream(collected, top, parents, parent, attributes)
    if len(collected) + len(parents) > MEASURED_ENTRIES:
        return chunks
    headers = _headers(collected, top, parents, parent, attributes)
    length = sum(len(header) + (_padded(entry.about.st_size) if entry else 0) for header, entry in headers)
    return Measured(chunks, length + 2 * BLOCK_BYTES)


def tar_stream(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Iterator[bytes]:
    """The tar of `collected`, named `top`, below the folders `parents`, which it creates.

    Raises TransferError if a file changes meanwhile.
    """
    small: list[bytes] = []
    size = 0
    for piece in _pieces(collected, top, parents, parent, attributes):
        if len(piece) >= SMALL_CHUNK_BYTES:
            # No empty chunk, which a reader would take for the end; and a large piece is not copied once more.
            if small:
                yield b"".join(small)
            yield piece
            small, size = [], 0
            continue
        small.append(piece)
        size += len(piece)
        if size >= SMALL_CHUNK_BYTES:
            yield b"".join(small)
            small, size = [], 0
    yield b"".join(small) + bytes(2 * BLOCK_BYTES)


def _pieces(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Iterator[bytes]:
    for header, entry in _headers(collected, top, parents, parent, attributes):
        yield header
        if entry:
            yield from _content(entry)


def _headers(
    collected: list[Entry], top: str, parents: list[str], parent: Attributes, attributes: Callable[[Entry], Attributes]
) -> Iterator[tuple[bytes, Entry | None]]:
    """Each header, with the entry whose content follows it."""
    for path in parents:
        member = tarfile.TarInfo(path)
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        member.uid, member.gid = parent.uid, parent.gid
        yield _header(member), None
    first: dict[tuple[int, int], str] = {}
    for entry in collected:
        name = f"{top}/{entry.name}" if entry.name else top
        member = _member(entry, name, attributes(entry))
        if entry.is_file and entry.about.st_nlink > 1:
            key = entry.about.st_dev, entry.about.st_ino
            if key in first:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first[key], 0
            first.setdefault(key, name)
        yield _header(member), entry if member.isreg() else None


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _member(entry: Entry, name: str, wanted: Attributes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(entry.about.st_mode) if wanted.mode is None else wanted.mode
    member.uid, member.gid, member.mtime = wanted.uid, wanted.gid, int(entry.about.st_mtime)
    if entry.is_folder:
        member.type = tarfile.DIRTYPE
    elif entry.is_file:
        member.size = entry.about.st_size
    else:
        member.type, member.linkname = tarfile.SYMTYPE, str(Path(entry.path).readlink())
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    # GNU's format takes every name and size as it is; pax would double the headers for a time with a fraction.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _content(entry: Entry) -> Iterator[bytes]:
    left = entry.about.st_size
    try:
        descriptor = os.open(entry.path, _OPEN)
        try:
            while left:
                data = os.read(descriptor, min(CHUNK_BYTES, left))
                if not data:
                    raise TransferError(f"{entry.path} became shorter while it was copied")
                left -= len(data)
                yield data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TransferError(f"{entry.path} can't be read: {error.strerror or error}") from error
    if padding := _padded(entry.about.st_size) - entry.about.st_size:
        yield bytes(padding)
