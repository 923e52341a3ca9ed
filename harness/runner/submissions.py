"""A submission that is an archive: is it whole? It is read once, in little memory, and there is an end to it.

tarfile keeps all members, takes a long name's length on trust, and searches headers for numbers in quadratic time.
"""

from __future__ import annotations

import bz2
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from taskgate.harness.runner.completion import Unfinished
from taskgate.harness.sandbox.archive import MAX_BYTES, MAX_ENTRIES

BLOCK_BYTES = tarfile.BLOCKSIZE
CHUNK_BYTES, READY_BYTES = 64 << 10, 1 << 20
# Extensions of an entry's header: long names, times, large sizes.
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENDED = (*PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
EXTENDED_BYTES, ALL_EXTENDED_BYTES = 1 << 20, 1 << 30
XZ_BYTES = 256 << 20
# The bytes of a header that say that a map of holes goes on.
SPARSE_MORE, SPARSE_STILL_MORE = 482, 504
# By the bytes that such a file begins with.
PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(memlimit=XZ_BYTES),
    b"\x5d\0\0\x80": lambda: lzma.LZMADecompressor(memlimit=XZ_BYTES),
}


def inspect(path: Path) -> None:
    """Is an archive whole, if it is one by its name? Raises Unfinished."""
    if path.stat().st_size == 0:
        raise Unfinished(f"{path.name} is empty")
    if not path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return
    try:
        with path.open("rb") as file:
            _walk(_Unpacked(file))
    except _TooMuch as error:
        raise Unfinished(f"{path.name} {error}") from error
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise Unfinished(f"{path.name} is damaged: {str(error)[:200]}") from error


class _TooMuch(Exception):
    """More than an archive may hold."""


def _walk(source: _Unpacked) -> None:
    """From header to header, up to the end. Raises _TooMuch, and what parsers raise."""
    entries, extended = 0, 0
    pax_size: int | None = None
    block = source.exactly(BLOCK_BYTES)
    while block.strip(b"\0"):
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if header.type in EXTENDED:
            extended += BLOCK_BYTES + header.size
            if header.size > EXTENDED_BYTES or extended > ALL_EXTENDED_BYTES:
                raise _TooMuch("says too much of its entries")
            extension = source.exactly(_padded(header.size))[: header.size]
            pax_size = _size(extension) if header.type in PAX else pax_size
        else:
            entries += 1
            if entries > MAX_ENTRIES:
                raise _TooMuch(f"holds more than {MAX_ENTRIES:,} entries")
            if header.type == tarfile.GNUTYPE_SPARSE and block[SPARSE_MORE]:
                _skip_map(source)
            if header.isreg() or header.type not in tarfile.SUPPORTED_TYPES:
                source.skip(_padded(header.size if pax_size is None else pax_size))
            pax_size = None
        # Not every program writes the blocks of zeros at the end.
        block = source.exactly(BLOCK_BYTES, or_end=True)


def _padded(size: int) -> int:
    if size < 0:
        raise ValueError("an entry is smaller than nothing")
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _skip_map(source: _Unpacked) -> None:
    """Where a file has holes, beyond what its header has room for."""
    while source.exactly(BLOCK_BYTES)[SPARSE_STILL_MORE]:
        pass


def _size(records: bytes) -> int | None:
    """The size that a PAX header gives its entry, if it does; lines are `LENGTH NAME=VALUE`."""
    size, at = None, 0
    while at < len(records) and records[at]:
        digits = records[at : at + 20].partition(b" ")[0]
        if not digits.isdigit() or not len(digits) < int(digits) <= len(records) - at:
            raise ValueError("an extended header makes no sense")
        name, _, value = records[at + len(digits) + 1 : at + int(digits)].partition(b"=")
        at += int(digits)
        if name == b"size":
            size = int(value)
    return size


class _Unpacked:
    """A file's bytes, unpacked if it is packed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left, self._pieces = file, MAX_BYTES, 0
        head = file.read(8)
        file.seek(0)
        self._new = next((new for mark, new in PACKED.items() if head.startswith(mark)), None)
        self._piece = self._new() if self._new else None
        self._rest, self._ready = b"", memoryview(b"")

    def exactly(self, size: int, *, or_end: bool = False) -> bytes:
        """So many bytes; none at a clean end, where that is allowed. Raises EOFError, _TooMuch."""
        held = bytearray()
        while len(held) < size:
            data = self._read(size - len(held))
            if not data and or_end and not held:
                return b""
            if not data:
                raise EOFError("it is cut short")
            held += data
        return bytes(held)

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.exactly(min(size, READY_BYTES)))

    def _read(self, most: int) -> memoryview:
        """Some of it, which may be less; nothing at the end."""
        if not self._ready:
            self._ready = memoryview(self._next(READY_BYTES) if self._piece else self._file.read(READY_BYTES))
            self._left -= len(self._ready)
            if self._left < 0:
                raise _TooMuch(f"unpacks to more than {MAX_BYTES >> 30} GiB")
        data, self._ready = self._ready[:most], self._ready[most:]
        return data

    def _next(self, most: int) -> bytes:
        """Up to `most` bytes of one packed piece after another."""
        assert self._piece is not None and self._new is not None
        while True:
            if self._piece.eof:
                self._rest = self._piece.unused_data or self._file.read(CHUNK_BYTES)
                if not self._rest:
                    return b""
                self._piece, self._pieces = self._new(), self._pieces + 1
                if self._pieces > MAX_ENTRIES:
                    raise _TooMuch(f"is packed in more than {MAX_ENTRIES:,} pieces")
            ended = False
            if not self._rest and getattr(self._piece, "needs_input", True):
                self._rest = self._file.read(CHUNK_BYTES)
                ended = not self._rest
            data: bytes = self._piece.decompress(self._rest, most)
            self._rest = getattr(self._piece, "unconsumed_tail", b"")
            if data:
                return data
            if ended and not self._piece.eof:
                raise EOFError("it is cut short")
