"""Copies into a container beside `docker cp`, in one run: a large file, and many small ones. Prints medians and ratios.

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

import docker

from taskgate.harness.sandbox.transfer import copy_to_container

LARGE_BYTES, FILES, FILE_BYTES = 100 << 20, 5000, 1000


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


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
                ours, theirs = [], []
                for turn in range(options.rounds):
                    dest = f"/tmp/{source.name}-{turn}"
                    ours.append(_seconds(partial(copy_to_container, container, source, dest, verbose=False)))
                    command = ["docker", "cp", "-q", str(source), f"{container.id}:{dest}-cp"]
                    theirs.append(_seconds(partial(subprocess.run, command, check=True, capture_output=True)))
                mine, other = statistics.median(ours), statistics.median(theirs)
                print(f"{title}: {mine:.3f} s, docker cp {other:.3f} s, ratio {mine / other:.2f}")
    finally:
        container.remove(force=True, v=True)
        client.close()


if __name__ == "__main__":
    main()
