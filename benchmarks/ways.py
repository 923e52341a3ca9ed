"""Five ways to put the same questions to an image: each runs every command that taskgate's checks run on it."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import docker

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.sandbox.shell import Result, Shell
from taskgate.harness.tasks.task import Task

# Puts a number of images through, so many at a time.
Way = Callable[[list[str], int], None]

TESTINFRA = """
import json, pathlib, subprocess
import pytest, testinfra

here = pathlib.Path(__file__).parent
SCRIPTS = json.loads((here / "scripts.json").read_text())

@pytest.fixture(params=json.loads((here / "images.json").read_text()), ids=lambda name: name)
def host(request):
    started = subprocess.run(
        ["docker", "run", "-d", "--entrypoint", "/bin/sh", request.param, "-c", "exec sleep 1000"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()
    yield testinfra.get_host("docker://" + started)
    subprocess.run(["docker", "rm", "-f", started], check=True, capture_output=True)

def test_image(host):
    for script in SCRIPTS:
        assert host.run("/bin/sh -c %s", script).rc == 0
"""


def scripts(task: Task) -> list[str]:
    """The commands of each check on this task's image, one script a check, for the shell to run."""
    found: dict[str, list[str]] = {}
    begun: list[str] = []
    real_run, real_one = Shell.run, Judgement._judge

    def run(
        self: Shell,
        script: str,
        *args: str,
        seconds: float,
        shown: str | None = None,
        more: Callable[[], float] | None = None,
    ) -> Result:
        found.setdefault(begun[-1], []).append(f"sh -c {shlex.join([script, 'sh', *args])}")
        return real_run(self, script, *args, seconds=seconds, shown=shown, more=more)

    def one(self: Judgement, check: registry.Check) -> None:
        begun.append(check.name)
        real_one(self, check)

    Shell.run, Judgement._judge = run, one  # type: ignore[method-assign]
    engine = Engine()
    sandbox = Sandbox(engine, task, "benchmark")
    try:
        record = Judgement(task, sandbox, registry.load()).run()
    finally:
        sandbox.close()
        engine.close()
        Shell.run, Judgement._judge = real_run, real_one  # type: ignore[method-assign]
    assert record.verdict == "healthy", record
    # Whether it is found or not, what a command says is nobody's business here.
    return ["\n".join([*lines, "true"]) for lines in found.values()]


def taskgate(folder: Path, task: Task) -> Way:
    """The whole command, its start-up included."""

    def way(names: list[str], workers: int) -> None:
        manifest = folder / "manifest.yaml"
        defaults = {"repo_path": task.repo_path, "pull": "never", "agent": {"module": "agent"}}
        rows = [{"id": name.replace("/", "-"), "image": name} for name in names]
        manifest.write_text(json.dumps({"version": 1, "defaults": defaults, "tasks": rows}))
        _pytest(folder, f"--images={manifest}", "-n", str(workers), "--recheck", f"--out={folder / 'out'}")

    return way


def plain(asked: list[str]) -> Way:
    """`docker inspect`, and a `docker run --rm` for each check."""

    def one(name: str) -> None:
        subprocess.run(["docker", "inspect", name], check=True, capture_output=True)
        for script in asked:
            command = ["docker", "run", "--rm", "--entrypoint", "/bin/sh", name, "-c", script]
            subprocess.run(command, check=True, capture_output=True)

    return _threads(one)


def structure_test(folder: Path, asked: list[str]) -> Way:
    """container-structure-test, a command test for each check."""
    program = Path(sys.executable).parent / "container-structure-test"
    tests = [{"name": f"check {n}", "command": "/bin/sh", "args": ["-c", text]} for n, text in enumerate(asked)]
    config = folder / "structure.json"
    config.write_text(json.dumps({"schemaVersion": "2.0.0", "commandTests": tests}))

    def one(name: str) -> None:
        command = [str(program), "test", "--image", name, "--config", str(config)]
        subprocess.run(command, check=True, capture_output=True)

    return _threads(one)


def testinfra(folder: Path, asked: list[str]) -> Way:
    """pytest-testinfra on a started container, an exec for each check, spread by pytest-xdist."""
    suite = folder / "testinfra"
    suite.mkdir()
    (suite / "test_images.py").write_text(TESTINFRA)
    (suite / "scripts.json").write_text(json.dumps(asked))

    def way(names: list[str], workers: int) -> None:
        (suite / "images.json").write_text(json.dumps(names))
        _pytest(suite, "-n", str(workers), "-p", "no:taskgate.harness.plugin.hooks", str(suite))

    return way


def floor(asked: list[str]) -> Way:
    """Create, start, wait, logs and remove of one container through the SDK, which runs all the commands. Nobody
    judges what they print. This is what one container of its own costs; taskgate's share a network namespace."""

    def way(names: list[str], workers: int) -> None:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(_floor, names, ["\n".join(asked)] * len(names)))

    return way


def _floor(name: str, script: str) -> None:
    made = _connected().containers.create(name, entrypoint=["/bin/sh"], command=["-c", script])
    made.start()
    made.wait()
    made.logs()
    made.remove(force=True, v=True)


@functools.cache
def _connected() -> docker.DockerClient:
    """One client a process."""
    return images.connect()


def _threads(one: Callable[[str], None]) -> Way:
    def way(names: list[str], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, names))

    return way


def _pytest(folder: Path, *args: str) -> None:
    # Hypothesis is here for this project's own tests; where taskgate is used it seldom is.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
