"""Fifty SIGKILLs of a run on two engines, one of which goes and comes: every task is done once, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest

from tests import engines, running
from tests.library import bring
from tests.running import Run, manifest

KILLS, TASKS = 50, 40
HERE = "unix:///var/run/docker.sock"


class _Toggled:
    """Kills an engine and starts it again, over and over."""

    def __init__(self, daemon: engines.Daemon, chance: random.Random) -> None:
        self._daemon, self._chance = daemon, chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._toggle, daemon=True)
        self.times = 0

    def __enter__(self) -> _Toggled:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(120)

    def _toggle(self) -> None:
        while not self._over.wait(self._chance.uniform(5, 20)):
            self._daemon.kill()
            self._over.wait(self._chance.uniform(1, 10))
            self._daemon.start()
            self.times += 1


def _left(client: Any, pids: set[str]) -> list[Any]:
    listed = [entry["Labels"] for entry in client.api.containers(all=True, filters={"label": "taskgate.pid"})]
    listed += [entry["Labels"] for entry in client.api.volumes(filters={"label": "taskgate.pid"})["Volumes"] or ()]
    return [labels for labels in listed if labels["taskgate.pid"] in pids]


@pytest.mark.slow
def test_fifty_kills_on_two_engines(tmp_path: Path, client: Any, sound: str) -> None:
    image = running.working(client, sound)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    first = "slow-0.2-first"
    ids = [f"slow-{chance.choice((0.2, 1, 4))}-{number}" for number in range(TASKS - 1)]
    text = manifest(image, first, *ids)
    run, seen, pids = Run(tmp_path), dict[str, dict[str, Any]](), set[str]()
    # With a bridge of its own, in a network namespace of its own.
    with engines.dockerd("--mtu=1500") as daemon:
        theirs = docker.DockerClient(base_url=daemon.url, version="auto", timeout=120)
        bring(client, theirs, image)
        argv = run.argv(text, "-j4", f"--docker-host={HERE}", f"--docker-host={daemon.url}", "--max-infra=off")
        # How long it takes here until something is done.
        once = time.monotonic()
        assert run.done([*argv, f"--only={first}"]).status == 0
        once = time.monotonic() - once
        with _Toggled(daemon, chance) as toggled:
            for _ in range(KILLS):
                before, begun = dict(seen), datetime.now(UTC).isoformat(timespec="milliseconds")
                process = subprocess.Popen(
                    argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
                pids.add(str(process.pid))
                time.sleep(chance.uniform(0.3, 2 * once))
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for path in run.out.glob("*/result.json"):
                    record = json.loads(path.read_text())
                    if record["status"] == "done":
                        assert seen.setdefault(record["task_id"], record) == record, f"done twice (seed {seed})"
                for path in run.out.glob(".running/*/attempt.json"):
                    record = json.loads(path.read_text())
                    # An older one may wait for its engine to come back.
                    if record["started"] >= begun:
                        assert record["task_id"] not in before, f"started though it was done (seed {seed})"
        assert toggled.times and len(seen) > 1, "nothing was shown"
        last = run(None, "-j4", f"--docker-host={HERE}", f"--docker-host={daemon.url}")
        assert last.status == 0, f"{last.output} (seed {seed})"
        status, states = run.status()
        assert len(states) == TASKS and {state for state, _ in states.values()} == {"done"}, (status, states)
        for task, record in seen.items():
            assert run.result_of(task) == record, f"done again after the last kill (seed {seed})"
        for task in states:
            prediction = json.loads((run.out / task / "prediction.json").read_text())
            assert prediction == {"instance_id": task, "model_patch": "a patch"}
        assert not (run.out / ".running").exists()
        assert _left(client, pids) == [] and _left(theirs, pids) == [], f"seed {seed}"
        theirs.close()
