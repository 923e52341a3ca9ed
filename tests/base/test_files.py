"""Files are replaced whole; what is no file is written to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from taskgate.harness.base import files


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    """As root, `-o /dev/null` would take the machine's."""
    device = tmp_path / "null"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    files.write(device, b"text")
    link = tmp_path / "link"
    link.symlink_to(device)
    files.write(link, [b"a", b"b"])
    assert stat.S_ISCHR(device.stat().st_mode) and link.is_symlink()
    assert {one.name for one in tmp_path.iterdir()} == {"null", "link"}


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, [b"one ", b"two"])
        assert os.read(reader, 100) == b"one two"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """Whoever reads the old one goes on reading it."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as old:
        files.write(path, b"new")
        assert old.read() == "old"
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640


def test_a_dated_backup_of_the_users_stays(tmp_path: Path) -> None:
    """`.NAME.20261125` has as many characters at its end as a temporary file of ours."""
    backup = tmp_path / ".list.txt.20261125"
    backup.write_text("kept")
    files.write(tmp_path / "list.txt", b"new")
    assert backup.read_text() == "kept"
