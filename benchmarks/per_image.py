"""Images per second, side by side in one run: taskgate, and four other ways to ask the same of the same images.

    .venv/bin/python benchmarks/per_image.py [--images 50] [--rounds 3] [--workers 1,2,4]

The ways stand in benchmarks/ways.py. Each image is one of its own on shared layers. The ways are interleaved in every
round; the figures are medians. Of the slow ways, fewer images tell the pace.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures, ways
from examples import images
from taskgate.harness.tasks.task import Agent, Task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    given = parser.parse_args()
    client = images.connect()
    images.demo(client)
    sound = "taskgate-demo/sound:1"
    names = [
        images.build(client, f"taskgate-bench/own-{number}:1", f"FROM {sound}\nLABEL number={number}")
        for number in range(given.images)
    ]
    task = Task("one", sound, repo_path="/testbed", agent=Agent(module="agent"))
    asked = ways.scripts(task)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tried: dict[str, ways.Way] = {
            "taskgate": ways.taskgate(folder, task),
            "floor": ways.floor(asked),
            "pytest-testinfra": ways.testinfra(folder, asked),
            "plain": ways.plain(asked),
            "container-structure-test": ways.structure_test(folder, asked),
        }
        rows: list[dict[str, Any]] = []
        print(f"{given.images} images, {len(asked)} checks that run commands, {given.rounds} rounds", flush=True)
        print("| workers | way | images per second | taskgate is so many times as fast |\n| ---: | --- | ---: | ---: |")
        for workers in (int(text) for text in given.workers.split(",")):
            paces: dict[str, list[float]] = {way: [] for way in tried}
            for _ in range(given.rounds):
                for way, through in tried.items():
                    some = names if way in ("taskgate", "floor") else names[: max(6, given.images // 5)]
                    begun = time.perf_counter()
                    through(some, workers)
                    paces[way].append(len(some) / (time.perf_counter() - begun))
            ours = statistics.median(paces["taskgate"])
            for way, found in paces.items():
                pace = statistics.median(found)
                rows.append({"workers": workers, "way": way, "images per second": pace, "times": ours / pace})
                print(f"| {workers} | {way} | {pace:.2f} | {ours / pace:.2f} |", flush=True)
    figures.keep("per image", "benchmarks/per_image.py", rows)


if __name__ == "__main__":
    main()
