"""What it costs to load a manifest of 100,000 tasks: now, and at an older commit, side by side.

    .venv/bin/python benchmarks/manifest.py [--tasks 100000] [--rounds 3] [--before 95c893b] [--keep]

Each load runs in a process of its own; the best of the rounds counts. CPU seconds of `manifest.load`, and by how many
MB the process's peak resident set is above that of one that only imported the loader.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

HEAD = {"version": 1, "defaults": {"repo_path": "/testbed", "agent": {"module": "agent"}, "limits": {"cpus": 2}}}
LOAD = r"""
import json, pathlib, re, sys, time, types
package = types.ModuleType("taskgate")
package.__path__ = [sys.argv[1]]
sys.modules["taskgate"] = package
try:
    from taskgate.harness.tasks import manifest
except ImportError:
    from taskgate.harness import manifest
def peak():
    # Unlike ru_maxrss, it does not count what the parent had.
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
manifest.load(sys.argv[3])
base = peak()
begun = time.process_time()
tasks = manifest.load(sys.argv[2])
seconds = time.process_time() - begun
print(json.dumps({"tasks": len(tasks), "seconds": seconds, "MB": (peak() - base) / 1024}))
"""


def short(number: int) -> dict[str, Any]:
    """A task as SWE-bench's importers write them."""
    return {"id": f"django__django-{number}", "image": f"demo/django-{number}:latest", "base_commit": f"{number:040x}"}


def long(number: int) -> dict[str, Any]:
    """A task that sets a bit of everything."""
    return {
        **short(number),
        "env": {"TASK": str(number), "TZ": "UTC"},
        "limits": {"cpus": 2 + number % 3, "memory": "8g"},
        "checks": {"git_future": "fail"},
        "require": {"commands": ["cargo"], "files": ["src/main.rs"]},
        "budget": {"seconds": 1800},
    }


def write(folder: Path, name: str, task: Callable[[int], dict[str, Any]], count: int) -> Path:
    """A manifest of so many tasks."""
    tasks = [task(number) for number in range(count)]
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in [HEAD, *tasks]))
    else:
        rows = "".join(f"- {json.dumps(row)}\n" for row in tasks)
        path.write_text(f"version: 1\ndefaults: {json.dumps(HEAD['defaults'])}\ntasks:\n{rows}")
    return path


def measure(code: Path, path: Path, empty: Path) -> dict[str, float]:
    """One load in a process of its own."""
    command = [sys.executable, "-c", LOAD, str(code), str(path), str(empty)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=path.parent)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", metavar="COMMIT", default="95c893b")
    parser.add_argument("--keep", action="store_true", help="add the figures to docs/benchmarks.json")
    given = parser.parse_args()
    figures: list[dict[str, Any]] = []
    print("| manifest | seconds before | now | MB before | now |\n|" + " ---: |" * 5, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        archive = subprocess.run(["git", "archive", given.before], cwd=CLONE, check=True, capture_output=True).stdout
        (top / "before").mkdir()
        subprocess.run(["tar", "-x", "-C", str(top / "before")], input=archive, check=True)
        empty = write(top, "empty.yaml", short, 1)
        for name, task in (("short.jsonl", short), ("long.jsonl", long), ("short.yaml", short)):
            path = write(top, name, task, given.tasks)
            best: dict[str, dict[str, float]] = {}
            for _ in range(given.rounds):
                for when, code in (("before", top / "before"), ("now", CLONE)):
                    found = measure(code, path, empty)
                    known = best.setdefault(when, found)
                    best[when] = {key: min(known[key], found[key]) for key in known}
            row = {
                f"{key} {when}": round(best[when][key], 2) for key in ("seconds", "MB") for when in ("before", "now")
            }
            figures.append({"manifest": name, "tasks": given.tasks, **row})
            print(f"| {name} | " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    if given.keep:
        from benchmarks import figures as kept

        kept.keep("manifest", "benchmarks/manifest.py", figures)


if __name__ == "__main__":
    main()
