"""Hostile archives that an agent leaves as its submission: refused or passed, in bounded memory, and no error of ours."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskgate.harness.runner import collection, submissions
from taskgate.harness.runner.completion import Ending, Unfinished

NAME = "submission.tar.gz"
END = bytes(1024)


def _inspect(folder: Path, data: bytes) -> None:
    """As a run does, with what else it looks at in place."""
    (folder / "trajectory.json").write_text('{"task_id": "a", "steps": [1]}')
    (folder / "prediction.json").write_text('{"task_id": "a", "answer": 1}')
    (folder / NAME).write_bytes(data)
    collection.assess(folder, "a", f"/out/{NAME}", Ending(0))


def _packed(pieces: Iterator[bytes]) -> bytes:
    pack = zlib.compressobj(9, wbits=31)
    return b"".join(map(pack.compress, pieces)) + pack.flush()


def _header(kind: bytes, size: int = 0, name: str = "a") -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made.tobuf()


def _peak(act: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_long_header(tmp_path: Path, kind: bytes) -> None:
    def long() -> Iterator[bytes]:
        yield _header(kind, 64 << 20)
        for _ in range(64):
            yield b"1" * (1 << 20)
        yield _header(tarfile.REGTYPE) + END

    def refused() -> None:
        with pytest.raises(Unfinished, match="says too much"):
            _inspect(tmp_path, _packed(long()))

    assert _peak(refused) < 16 << 20


def test_digits_in_a_header(tmp_path: Path) -> None:
    """They are looked at once."""
    head = b"1" * (1 << 20)
    with pytest.raises(Unfinished, match="damaged"):
        _inspect(tmp_path, _packed(iter([_header(tarfile.XHDTYPE, len(head)), head, _header(tarfile.REGTYPE), END])))


def test_a_map_of_holes(tmp_path: Path) -> None:
    def long() -> Iterator[bytes]:
        head = bytearray(_header(tarfile.GNUTYPE_SPARSE))
        head[482] = 1
        head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head))[0]  # type: ignore[attr-defined]
        block = (b"%011o\0%011o\0" % (512, 512) * 21).ljust(504, b"\0") + b"\1" + bytes(7)
        yield bytes(head)
        for _ in range(20_000):
            yield block
        yield block[:504] + bytes(8) + END

    assert _peak(lambda: _inspect(tmp_path, _packed(long()))) < 16 << 20


def test_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _packed(iter([_header(tarfile.REGTYPE) * 30_000, END]))
    assert _peak(lambda: _inspect(tmp_path, data)) < 20 << 20
    monkeypatch.setattr(submissions, "MAX_ENTRIES", 20_000)
    with pytest.raises(Unfinished, match="more than 20,000 entries"):
        _inspect(tmp_path, data)
    with pytest.raises(Unfinished, match="more than 20,000 pieces"):
        _inspect(tmp_path, gzip.compress(b"") * 30_000)


def test_more_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "MAX_BYTES", 1 << 20)
    with pytest.raises(Unfinished, match="unpacks to more than"):
        _inspect(tmp_path, _packed(iter([_header(tarfile.REGTYPE, 2 << 20), bytes(2 << 20), END])))


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b\x08", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"\x5d\0\0\x80", b"x", bytes(511), gzip.compress(b""),
     gzip.compress(_header(tarfile.REGTYPE, 1 << 30)), gzip.compress(_header(tarfile.REGTYPE)[:300]),
     gzip.compress(_header(tarfile.REGTYPE) + b"x" * 512), gzip.compress(_header(tarfile.XHDTYPE, 5) + b"9 a=b"),
     gzip.compress(_header(tarfile.XHDTYPE, 5) + b"0 a=b".ljust(512, b"\0")),
     gzip.compress(_header(tarfile.XHDTYPE, 11) + b"11 size=-1\n".ljust(512, b"\0") + _header(tarfile.REGTYPE) + END)],
    ids=range(14),
)  # fmt: skip
def test_what_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unfinished, match="damaged"):
        _inspect(tmp_path, data)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_what_is_whole(tmp_path: Path, form: int, pack: Callable[[bytes], bytes]) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as archive:
        for name in ("a", "b/" + "c" * 99 if form == tarfile.USTAR_FORMAT else "ü" * 120, "d"):
            member = tarfile.TarInfo(name)
            member.size = 700_000
            member.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            archive.addfile(member, io.BytesIO(b"x" * member.size))
        link = tarfile.TarInfo("e")
        link.type, link.linkname = tarfile.LNKTYPE, "a"
        archive.addfile(link)
    whole = pack(held.getvalue())
    _inspect(tmp_path, whole)
    # Without the zeros at its end, too.
    _inspect(tmp_path, pack(held.getvalue()[: archive.offset]))
    for cut in (100, len(whole) // 2):
        with pytest.raises(Unfinished, match="damaged"):
            _inspect(tmp_path, whole[:cut])


def test_a_size_in_an_extended_header(tmp_path: Path) -> None:
    """As files of more than 8 GiB have it."""
    said = b"13 size=2048\n"
    parts = [_header(tarfile.XHDTYPE, len(said)), said.ljust(512, b"\0"), _header(tarfile.REGTYPE), b"x" * 2048, END]
    _inspect(tmp_path, _packed(iter(parts)))
