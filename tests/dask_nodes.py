"""A dask scheduler and workers on the loopback interface, each a process that a test may kill or stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s",
}


class Nodes:
    """`file` is the scheduler file. Workers are added one by one; each may have an engine of its own."""

    def __init__(self, folder: Path) -> None:
        self.file, self._log = folder / "scheduler.json", folder / "dask.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)
        )
        for _ in range(600):
            if self.file.exists():
                return
            time.sleep(0.1)
        raise AssertionError(f"the scheduler does not start:\n{self._log.read_text()[-2000:]}")

    def worker(self, docker_host: str | None = None, *, slots: int = 2) -> subprocess.Popen[bytes]:
        env = {"DOCKER_HOST": docker_host} if docker_host else {}
        return self._start(
            "worker", "--scheduler-file", str(self.file), "--no-nanny", "--nthreads", str(slots + 1), "--no-dashboard",
            "--resources", f"pull=1 sandbox={slots}", "--host", "127.0.0.1", **env,
        )  # fmt: skip

    def close(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(timeout=30)

    def _start(self, *args: str, **env: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + args[0], *args[1:]],
                env={**os.environ, **SETTINGS, **env},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._processes.append(process)
        return process


@contextmanager
def nodes(folder: Path) -> Iterator[Nodes]:
    cluster = Nodes(folder)
    try:
        yield cluster
    finally:
        cluster.close()
