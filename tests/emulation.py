"""Runs other architectures through qemu-user-static, registered with the kernel for as long as it is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

BINFMT = Path("/proc/sys/fs/binfmt_misc")


@contextmanager
def arm64(lock: Path) -> Iterator[None]:
    """Programs for arm64 run while this is held. `lock`: a file that all of the tests' processes share."""
    rule = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
    assert rule.exists(), "qemu-user-static is missing: apt-get install qemu-user-static"
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "none", str(BINFMT)], check=True)
    with FileLock(lock):
        there = (BINFMT / "qemu-aarch64").exists()
        if not there:
            (BINFMT / "register").write_text(rule.read_text().strip())
        try:
            yield
        finally:
            if not there:
                (BINFMT / "qemu-aarch64").write_text("-1")
