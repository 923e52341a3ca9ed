"""The umask is read, never set: threads share it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from taskgate.harness.base import files


def test_threads_that_write_leave_the_umask_alone(tmp_path: Path) -> None:
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        number = 0
        while not over.is_set():
            path = tmp_path / f"seen-{number}"
            number += 1
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
            seen.add(path.stat().st_mode & 0o777)
            path.unlink()

    def write(number: int) -> None:
        for _ in range(100):
            files.write(tmp_path / f"file-{number}", b"x")

    old = os.umask(0o027)
    try:
        looker = threading.Thread(target=look)
        looker.start()
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        over.set()
        looker.join()
        assert seen == {0o640} and (tmp_path / "file-0").stat().st_mode & 0o777 == 0o640
    finally:
        assert os.umask(old) == 0o027
