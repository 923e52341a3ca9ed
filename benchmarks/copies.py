"""Copies into a container beside `docker cp`, and commands beside the SDK's and `docker exec`. Prints medians.

A copy is of a large file, or of many small ones.

.venv/bin/python benchmarks/copies.py --image IMAGE
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import docker

from taskgate.harness.sandbox.execute import execute
from taskgate.harness.sandbox.transfer import copy_to_container

LARGE_BYTES, FILES, FILE_BYTES = 100 << 20, 5000, 1000


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _compare_copies(container: Any, title: str, source: Path, rounds: int) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(rounds):
        dest = f"/tmp/{source.name}-{turn}"
        command = ["docker", "cp", "-q", str(source), f"{container.id}:{dest}-cp"]
        calls: list[tuple[list[float], Callable[[], object]]] = [
            (ours, partial(copy_to_container, container, source, dest, verbose=False)),
            (theirs, partial(subprocess.run, command, check=True, capture_output=True)),
        ]
        # Neither is always the one that finds the disk busy with the other's data.
        for times, call in calls if turn % 2 else calls[::-1]:
            times.append(_seconds(call))
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{title}: {mine:.3f} s, docker cp {other:.3f} s, ratio {mine / other:.2f}")


def _compare_commands(container: Any, rounds: int) -> None:
    calls: dict[str, Callable[[], object]] = {
        "execute": partial(execute, container, ["true"]),
        "exec_run": partial(container.exec_run, ["true"]),
        "docker exec": partial(subprocess.run, ["docker", "exec", container.id, "true"], check=True),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    print("a command: " + ", ".join(f"{name} {statistics.median(found):.3f} s" for name, found in times.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    client = docker.from_env()
    container = client.containers.run(
        options.image, entrypoint=["/bin/sh"], command=[], stdin_open=True, init=True, detach=True
    )
    try:
        with tempfile.TemporaryDirectory() as name:
            sources = {"100 MB": Path(name, "large"), "5,000 files": Path(name, "many")}
            sources["100 MB"].write_bytes(os.urandom(LARGE_BYTES))
            sources["5,000 files"].mkdir()
            for number in range(FILES):
                (sources["5,000 files"] / str(number)).write_bytes(os.urandom(FILE_BYTES))
            for title, source in sources.items():
                _compare_copies(container, title, source, options.rounds)
        _compare_commands(container, 4 * options.rounds)
    finally:
        container.remove(force=True, v=True)
        client.close()


if __name__ == "__main__":
    main()
