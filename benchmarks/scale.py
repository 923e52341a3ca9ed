"""Large manifests in which nothing has changed: every verdict is in the cache, no container is started.

    .venv/bin/python benchmarks/scale.py [--tasks 10000,100000]

One image is judged for real; its verdict is then put into the cache under every other id. Seconds, and the peak
resident set of the controller and of its largest worker, for a plain run and with -n 2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from examples import images

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"


def gate(folder: Path, *args: str) -> tuple[float, int, int]:
    """Seconds, and the peak MB of the controller and of the largest of the processes that it started."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", *args]
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in [process.pid, *_children(process.pid)]:
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                peaks[pid] = int(status.partition("VmHWM:")[2].split()[0]) // 1000
        time.sleep(0.1)
    assert process.returncode == 0
    seconds = time.monotonic() - begun
    controller = peaks.pop(process.pid)
    return seconds, controller, max(peaks.values(), default=0)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="10000,100000")
    given = parser.parse_args()
    images.demo(images.connect())
    found: list[dict[str, Any]] = []
    print("| tasks | workers | seconds | ms a task | MB, controller | MB, worker |\n|" + " ---: |" * 6, flush=True)
    for count in (int(text) for text in given.tasks.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _known(folder, count)
            for workers in (0, 2):
                seconds, controller, worker = gate(folder, "--images=m.yaml", *(["-n", "2"] if workers else []))
                print(
                    f"| {count} | {workers} | {seconds:.1f} | {1000 * seconds / count:.2f} | {controller} | {worker} |",
                    flush=True,
                )
                found.append({"tasks": count, "workers": workers, "seconds": seconds} | {
                    "MB, controller": controller, "MB, worker": worker,
                })  # fmt: skip
    figures.keep("scale", "benchmarks/scale.py", found)


def _known(folder: Path, count: int) -> None:
    """A manifest of so many tasks, and a cache that knows them all."""
    rows = [f"- {{id: t{number}, image: 'taskgate-demo/sound:1'}}\n" for number in range(count)]
    (folder / "one.yaml").write_text(HEAD + rows[0])
    (folder / "m.yaml").write_text(HEAD + "".join(rows))
    gate(folder, "--images=one.yaml")
    cache = folder / "results/preflight/cache.jsonl"
    line = json.loads(cache.read_text())
    with cache.open("w") as file:
        for number in range(count):
            line["record"]["task_id"] = f"t{number}"
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
