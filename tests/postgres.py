"""A real PostgreSQL for a test session: its own data, a socket of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "nobody"


def program(name: str) -> str:
    """A PostgreSQL program on PATH or in Debian's places; fails loudly where there is none."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    assert found, f"{name} is missing: apt-get install postgresql"
    return found


class Server:
    """A server with data in `folder`, that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.url = folder, f"postgresql://gate@/postgres?host={folder}"
        # It refuses to run as root, and its socket's path must be short.
        as_user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        if as_user:
            shutil.chown(folder, USER)
        self._common = {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}, **as_user}
        done = subprocess.run(
            [program("initdb"), "-D", folder / "data", "-U", "gate", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True, check=False, **self._common,
        )  # type: ignore[call-overload]  # fmt: skip
        assert done.returncode == 0, done.stderr
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [program("postgres"), "-D", self._folder / "data", "-k", self._folder]
        command += ["-c", "listen_addresses=", "-F"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **self._common)  # type: ignore[call-overload]
        self._process = process
        for line in process.stderr:
            if b"ready to accept connections" in line:
                return
        raise AssertionError("PostgreSQL ended at once")

    def kill(self) -> None:
        """At once, as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.communicate(timeout=30)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.communicate(timeout=30)


@contextmanager
def running() -> Iterator[Server]:
    """A fresh server."""
    with tempfile.TemporaryDirectory(prefix="tg-pg-") as name:
        made = Server(Path(name))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def server() -> Iterator[str]:
    """The URL of a fresh server."""
    with running() as made:
        yield made.url
