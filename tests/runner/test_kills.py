"""A run that is killed at any moment, and one of two hundred at once: every task exactly once, and nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests import running
from tests.conftest import CLONE
from tests.running import Run, manifest

pytestmark = pytest.mark.slow

KILLS, TASKS = 20, 40


def test_twenty_kills(tmp_path: Path, client: Any, sound: str) -> None:
    images.demo(client)
    image = running.working(client, sound)
    rows = [f"{{id: slow-0.8-{number}{', network: none' if number % 4 == 0 else ''}}}" for number in range(TASKS - 8)]
    text = manifest(image, *rows)
    for number in range(8):
        text += (
            f"- {{id: served-{number}, image: 'taskgate-demo/sound:1', network: none, agent: {{server: [python3, -m,"
        )
        text += " agent, --serve]}}\n"
    run, seed = Run(tmp_path), random.randrange(1 << 32)
    chance, seen, pids = random.Random(seed), dict[str, dict[str, Any]](), []
    longest = 3.5
    for kill in range(KILLS):
        process = subprocess.Popen(
            run.argv(text, "-j4"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        pids.append(process.pid)
        if kill == 0:
            # However busy the machine is: the first kill comes after the first result, others at any moment until then.
            longest = _until_a_result(run) + 2.0
        else:
            time.sleep(chance.uniform(0.3, longest))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in run.out.glob("*/result.json"):
            told = json.loads(path.read_text())
            assert seen.setdefault(told["task_id"], told) == told, f"done twice (seed {seed})"
            assert told["status"] == "done", f"{told} (seed {seed})"
    before = dict(seen)
    assert before, "the kills came too early to show anything"
    last = run(text, "-j4")
    assert last.status == 0, f"{last.output} (seed {seed})"
    status, states = run.status()
    assert status == 0 and len(states) == TASKS and {state for state, _ in states.values()} == {"done"}
    for task, told in before.items():
        assert run.result_of(task) == told, f"done again after the last kill (seed {seed})"
    # What the killed ones left on the engine is gone, and so are their unfinished folders.
    mine = {str(pid) for pid in pids}
    left = [one["Labels"] for one in client.api.containers(all=True, filters={"label": "taskgate.pid"})]
    left += [one["Labels"] for one in client.api.volumes(filters={"label": "taskgate.pid"})["Volumes"] or ()]
    assert [of for of in left if of["taskgate.pid"] in mine] == []
    assert not (run.out / ".running").exists()
    assert len([path for path in run.out.iterdir() if path.is_dir()]) == TASKS


def _until_a_result(run: Run) -> float:
    """Seconds until a task of the run that has just been started has its result."""
    begun = time.monotonic()
    while not list(run.out.glob("*/result.json")):
        assert time.monotonic() - begun < 240, "no task came to its end"
        time.sleep(0.1)
    return time.monotonic() - begun


def test_two_hundred_at_once(tmp_path: Path, client: Any) -> None:
    """ProgramBench's shape: /workspace, no network, a server brought into an image that has nothing, a submission."""
    images.base(client)
    files = {"bin/sh": Path("/bin/busybox").read_bytes(), "workspace/main.py": b"def add(a, b):\n    return a - b\n",
             "tmp/.keep": b""}  # fmt: skip
    small = images.load(client, "taskgate-test/two-hundred:1", files, client.version()["Arch"], {"bin/sh": 0o755})
    runtime = json.dumps({"agent": str(CLONE / "examples/agent.py"), "builder": images.BASE})
    text = "version: 1\ndefaults: {repo_path: null, workdir: /workspace, pull: never, network: none,\n"
    # Every run proves the isolation of its own container: the gate need not do so of another one before.
    text += f"  runtime: {runtime}, checks: {{network: off}},\n"
    text += (
        "  submission: submission.tar.gz, agent: {server: [python3, -m, agent, --serve], health: /health}}\ntasks:\n"
    )
    ids = [f"owner__repo.{number:07x}" for number in range(200)]
    text += "".join(f"- {{id: {task}, image: '{small}'}}\n" for task in ids)
    run = Run(tmp_path)
    ran = run(text, "-j200")
    assert ran.status == 0, ran.output[-3000:]
    assert ran.told() == dict.fromkeys(ids, "done")
    assert len(list(run.out.glob("*/submission.tar.gz"))) == len(list(run.out.glob("*/isolation.json"))) == 200
    assert set(run(None, "-j200").told().values()) == {"SKIP (done)"}
