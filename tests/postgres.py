"""A real PostgreSQL for a test session: its own data, a socket of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
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


@contextmanager
def server() -> Iterator[str]:
    """The URL of a fresh server."""
    # It refuses to run as root, and its socket's path must be short.
    as_user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="tg-pg-") as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, USER)
        data = folder / "data"
        common = {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}, **as_user}
        done = subprocess.run(
            [program("initdb"), "-D", data, "-U", "gate", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True, check=False, **common,
        )  # type: ignore[call-overload]  # fmt: skip
        assert done.returncode == 0, done.stderr
        command = [program("postgres"), "-D", data, "-k", folder, "-c", "listen_addresses=", "-F"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **common)  # type: ignore[call-overload]
        try:
            for line in process.stderr:
                if b"ready to accept connections" in line:
                    break
            else:
                raise AssertionError("PostgreSQL ended at once")
            yield f"postgresql://gate@/postgres?host={folder}"
        finally:
            process.terminate()
            process.communicate(timeout=30)
