"""Tars as the engine's archive API sends and takes them: one that comes in pieces, one that holds a few files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

from taskgate.harness.engine import classification


def stream(chunks: Iterator[bytes], doing: str = "reading from a container") -> tarfile.TarFile:
    """Open it for one pass in constant memory. What the engine does wrong meanwhile is raised as InfraError."""
    return tarfile.open(fileobj=io.BufferedReader(_Pieces(_coming(chunks, doing)), 1 << 20), mode="r|")


def of_files(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """A tar that holds these files; the same ones give the same bytes."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A filter for `TarFile.add`: root owns it, whoever owns it here."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def timeless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As `anonymous`, and without its time: the same files give the same bytes."""
    member.mtime = 0
    return anonymous(member)


def is_plain(member: tarfile.TarInfo) -> bool:
    """Is it a file, a folder or a link, and not a device, a pipe or a socket?"""
    return member.isreg() or member.isdir() or member.issym() or member.islnk()


def _coming(chunks: Iterator[bytes], doing: str) -> Iterator[bytes]:
    with classification.translated(doing):
        yield from chunks


class _Pieces(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
