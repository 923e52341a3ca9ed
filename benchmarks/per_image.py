"""Images per second, side by side in one run: taskgate, the plain way, and the floor.

    .venv/bin/python benchmarks/per_image.py [--images 60] [--rounds 3] [--workers 1,2,4,8]

- taskgate: the whole command, `pytest --images=… -n N --recheck`, its start-up included.
- plain: `docker inspect` and a `docker run --rm` for each of three checks, N at a time.
- floor: create, start, wait, logs and remove of one container through the SDK, which runs the very commands that
  taskgate's checks run, one after another in one shell. Nobody judges what they print. N processes.

All use the engine's default network and the same image under as many ids as `--images` says. The rounds are
interleaved; the figures are medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

import docker  # noqa: E402

from examples import images  # noqa: E402
from taskgate.checks import registry  # noqa: E402
from taskgate.harness.box import Box  # noqa: E402
from taskgate.harness.engine import Engine  # noqa: E402
from taskgate.harness.judge import Judgement  # noqa: E402
from taskgate.harness.shell import Result, Shell  # noqa: E402
from taskgate.harness.task import Agent, Task  # noqa: E402

PLAIN = ("git -C /testbed status", "python3 -c 'import agent'", "touch /testbed/.probe && rm /testbed/.probe")
# Plain is slow and steady: so many images tell its pace.
PLAIN_PART = 4


def commands(task: Task) -> str:
    """One script with every command that the checks run on this task's image."""
    scripts: list[str] = []
    real = Shell.run

    def run(self: Shell, script: str, *args: str, seconds: float, shown: str | None = None) -> Result:
        scripts.append(f"sh -c {shlex.join([script, 'sh', *args])}")
        return real(self, script, *args, seconds=seconds, shown=shown)

    Shell.run = run  # type: ignore[method-assign]
    engine = Engine()
    box = Box(engine, task, "benchmark")
    try:
        record = Judgement(task, box, registry.load()).run()
    finally:
        box.close()
        engine.close()
        Shell.run = real  # type: ignore[method-assign]
    assert record.verdict == "healthy", record
    return "\n".join(scripts)


def taskgate(manifest: Path, workers: int, folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", f"--images={manifest}", "-n", str(workers), "--recheck"]
    # Hypothesis is here for this project's own tests; where taskgate is used it seldom is.
    command += [f"--out={folder}", "-p", "no:hypothesispytest"]
    subprocess.run(command, check=True, capture_output=True, cwd=manifest.parent)


def plain(image: str, number: int, workers: int) -> None:
    def one(_: int) -> None:
        subprocess.run(["docker", "inspect", image], check=True, capture_output=True)
        for script in PLAIN:
            subprocess.run(
                ["docker", "run", "--rm", "--entrypoint", "/bin/sh", image, "-c", script],
                check=True,
                capture_output=True,
            )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(number)))


@functools.cache
def connected() -> docker.DockerClient:
    """One client a process."""
    return images.connect()


def floor_one(image: str, script: str) -> None:
    made = connected().containers.create(image, entrypoint=["/bin/sh"], command=["-c", script])
    made.start()
    made.wait()
    made.logs()
    made.remove(force=True, v=True)


def floor(image: str, script: str, number: int, workers: int) -> None:
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(floor_one, [image] * number, [script] * number))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4,8")
    given = parser.parse_args()
    counts = [int(text) for text in given.workers.split(",")]
    client = images.connect()
    images.demo(client)
    image = "taskgate-demo/sound:1"
    script = commands(Task("one", image, repo_path="/testbed", agent=Agent(module="agent")))
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.yaml"
        tasks = [{"id": f"task-{number}", "image": image} for number in range(given.images)]
        defaults = {"repo_path": "/testbed", "pull": "never", "agent": {"module": "agent"}}
        manifest.write_text(json.dumps({"version": 1, "defaults": defaults, "tasks": tasks}))
        few = max(8, given.images // PLAIN_PART)
        ways: dict[str, tuple[int, Callable[[int], None]]] = {
            "taskgate": (given.images, lambda workers: taskgate(manifest, workers, Path(folder) / "out")),
            "plain": (few, lambda workers: plain(image, few, workers)),
            "floor": (given.images, lambda workers: floor(image, script, given.images, workers)),
        }
        print(f"{given.images} images, {given.rounds} rounds, {os.cpu_count()} CPUs; images per second", flush=True)
        print("| -n | taskgate | plain | floor | taskgate / plain | floor / taskgate |\n|" + " ---: |" * 6, flush=True)
        for workers in counts:
            paces: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(given.rounds):
                for name, (number, way) in ways.items():
                    begun = time.perf_counter()
                    way(workers)
                    paces[name].append(number / (time.perf_counter() - begun))
            ours, slow, fast = (statistics.median(paces[name]) for name in ways)
            cells = [f"{ours:.2f}", f"{slow:.2f}", f"{fast:.2f}", f"{ours / slow:.1f}", f"{fast / ours:.2f}"]
            print(f"| {workers} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
