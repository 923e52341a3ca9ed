"""BuildKit, by way of docker's buildx: what builds Dockerfiles where there is one.

The engine's own API has the classic builder alone: it knows no heredocs and no `RUN --mount`.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import IO

from taskgate.harness.base.errors import EngineTimeout, InfraError
from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Build

PROBE_SECONDS = 20
CONTINUED = re.compile(r"\\[ \t]*\r?\n")
NEEDS = {
    "a heredoc": re.compile(r"^[ \t]*(?:RUN|COPY|ADD)\b[^\n]*<<-?[\"']?[A-Za-z_]", re.I | re.M),
    "RUN --mount": re.compile(r"^[ \t]*RUN[ \t][^\n]*--(?:mount|network|security)=", re.I | re.M),
    "COPY --link": re.compile(
        r"^[ \t]*(?:COPY|ADD)[ \t][^\n]*--(?:link|chmod|parents|exclude|checksum)\b", re.I | re.M
    ),
}


@functools.cache
def available() -> bool:
    """Does docker's command-line client have buildx here?"""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        command = [docker, "buildx", "version"]
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"buildx" in done.stdout


def needed_by(build: Build) -> str | None:
    """What in the Dockerfile the classic builder does not know; None where it will do."""
    text = CONTINUED.sub(" ", yaml_tree.glimpse(build.context / build.dockerfile, 1 << 20))
    return next((what for what, pattern in NEEDS.items() if pattern.search(text)), None)


def command(url: str, tag: str, build: Build) -> list[str]:
    """The command that builds from a tar on its standard input."""
    argv = ["docker", "--host", url, "buildx", "build", "--load", "--progress=plain", f"--tag={tag}"]
    argv += [f"--file={build.dockerfile}", *([f"--platform={build.platform}"] if build.platform else [])]
    argv += [f"--target={build.target}"] if build.target else []
    argv += [f"--build-arg={name}={value}" for name, value in build.args.items()]
    return [*argv, "-"]


def run(argv: list[str], context: IO[bytes], log: Callable[[str], None], *, silence: float) -> str | None:
    """Run it; None where it succeeded, else its last words. Raises InfraError.

    `silence`: the longest, in seconds, that it may print nothing.
    """
    try:
        process = subprocess.Popen(
            argv, stdin=context, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace"
        )
    except OSError as error:
        raise InfraError(f"docker buildx can't be started: {error.strerror}") from error
    last, late = "", threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(silence, stop)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            timer.cancel()
            timer = threading.Timer(silence, stop)
            timer.start()
            log(line)
            last = line.strip() or last
    finally:
        timer.cancel()
        process.stdout.close()  # type: ignore[union-attr]
        if process.poll() is None:
            process.wait(silence)
    if late.is_set():
        raise EngineTimeout(f"docker buildx printed nothing for {silence:g} s")
    return None if process.returncode == 0 else last or f"ended with status {process.returncode}"
