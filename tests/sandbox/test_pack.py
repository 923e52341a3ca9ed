"""The tar of a copy: its length, its chunks."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from taskgate.harness.base.errors import TransferError
from taskgate.harness.sandbox import _pack
from taskgate.harness.sandbox._pack import Attributes


def _upload(source: Path, parents: list[str]) -> _pack.Measured:
    body = _pack.upload(_pack.entries(source, "refuse"), "top", parents, Attributes(), lambda _: Attributes(1, 2))
    assert isinstance(body, _pack.Measured)
    return body


def test_the_length_is_known_beforehand(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for size in (0, 1, 512, 513, _pack.SMALL_CHUNK_BYTES, 3 * _pack.CHUNK_BYTES + 1):
        (root / str(size)).write_bytes(os.urandom(size))
    (root / ("n" * 200)).write_text("a name that needs a header of its own")
    (root / "link").symlink_to("x" * 300)
    os.link(root / "513", root / "hard")
    body = _upload(root, ["a", "a/b"])
    chunks = list(body)
    assert len(b"".join(chunks)) == len(body) and all(chunks)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        members = {member.name: member for member in tar}
        assert list(members)[:3] == ["a", "a/b", "top"] and len(members) == 3 + 9
        assert members["top/hard"].islnk() and members["top/link"].linkname == "x" * 300
        for path in root.iterdir():
            if path.name not in ("hard", "link"):
                file = tar.extractfile(f"top/{path.name}")
                assert file and file.read() == path.read_bytes()


def test_many_entries_are_not_measured(tmp_path: Path) -> None:
    for number in range(_pack.MEASURED_ENTRIES):
        (tmp_path / str(number)).touch()
    body = _pack.upload(_pack.entries(tmp_path, "refuse"), "top", [], Attributes(), lambda _: Attributes())
    assert not isinstance(body, _pack.Measured)
    with tarfile.open(fileobj=io.BytesIO(b"".join(body))) as tar:
        assert len(tar.getnames()) == _pack.MEASURED_ENTRIES + 1


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    body = _upload(tmp_path / "file", [])
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(TransferError, match="became shorter"):
        list(body)
