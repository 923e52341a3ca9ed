"""Killed workers, killed controllers, killed engines: no false verdict, and nothing of ours stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from tests import engines
from tests.conftest import Gate

pytestmark = pytest.mark.slow

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"
CHECK = """
import os, pathlib, signal
from taskgate.checks import check

@check(after='shell')
def deadly(sandbox):
    '''A check of these tests.'''
    if sandbox.task.id == 'victim':
        pathlib.Path('begun').touch()
        ACT
"""


def _checks(folder: Path, act: str) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/deadly.py").write_text(CHECK.replace("ACT", act))


def _manifest(image: str, count: int = 6) -> str:
    ids = [f"t{n}" for n in range(count)]
    ids[1] = "victim"
    return HEAD + "".join(f"- {{id: {task_id}, image: '{image}'}}\n" for task_id in ids)


def _containers(client: Any, pid: int) -> list[Any]:
    found: list[Any] = client.containers.list(all=True, filters={"label": f"taskgate.pid={pid}"})
    return found


def test_a_killed_worker_costs_its_image_the_verdict_and_nothing_else(
    gate: Gate, sound: str, tmp_path: Path, client: Any
) -> None:
    act = "pathlib.Path('session').write_text(sandbox._session); os.kill(os.getpid(), signal.SIGKILL)"
    _checks(tmp_path, act)
    run = gate(_manifest(sound), "-n", "2", "--check-path=mine", "--html=r.html", "--self-contained-html")
    assert run.status == 10, run.output
    told = {name: task["verdict"] for name, task in run.tasks.items()}
    assert told.pop("victim") == "infra" and set(told.values()) == {"healthy"} and len(told) == 5
    assert run.listed == set() and "crashed" in run.tasks["victim"]["reason"]
    assert "victim" in (tmp_path / "r.html").read_text()
    # What the killed worker left, the controller removed.
    (session,) = (tmp_path / "session").read_text().split()
    assert client.containers.list(all=True, filters={"label": f"taskgate.session={session}"}) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_an_ended_controller(
    gate: Gate, sound: str, tmp_path: Path, client: Any, signal_number: signal.Signals
) -> None:
    _checks(tmp_path, "sandbox.sh('sleep 25')")
    (tmp_path / "m.yaml").write_text(_manifest(sound))
    command = [sys.executable, "-m", "pytest", "--images=m.yaml", "--check-path=mine"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    assert sorted("taskgate.pause" in one.labels for one in _containers(client, process.pid)) == [False, True]
    process.send_signal(signal_number)
    status = process.wait(timeout=60)
    journal = [json.loads(line) for line in (tmp_path / "results/preflight/journal.jsonl").read_text().splitlines()]
    assert [line["task_id"] for line in journal][:1] == ["t0"]
    if signal_number is signal.SIGINT:
        assert status == 2 and _containers(client, process.pid) == []
        assert "t2" in json.loads((tmp_path / "results/preflight/verdicts.json").read_text())["unchecked"]
    # The next run clears away what is left.
    run = gate(_manifest(sound).replace("victim", "other"), "--check-path=mine")
    assert run.status == 0, run.output
    assert _containers(client, process.pid) == []
    assert run.tasks["t0"]["cached"], "what was judged before the end is known"


def test_a_live_runs_containers_are_left_alone(gate: Gate, sound: str, client: Any) -> None:
    mine = client.containers.run(
        sound, ["sleep", "60"], detach=True, init=True, labels={"taskgate": "gate", "taskgate.pid": str(os.getpid())}
    )
    strange = client.containers.run(sound, ["sleep", "60"], detach=True, init=True)
    try:
        assert gate(_manifest(sound)).status == 0
        assert {mine.id, strange.id} <= {c.id for c in client.containers.list()}
    finally:
        for container in (mine, strange):
            container.remove(force=True, v=True)


@pytest.fixture(scope="module")
def daemon() -> Iterator[engines.Daemon]:
    with engines.dockerd() as made:
        yield made


@pytest.fixture
def small(daemon: engines.Daemon) -> str:
    client = docker.DockerClient(base_url=daemon.url)
    files = {"bin/sh": Path("/bin/busybox").read_bytes()}
    tag = images.load(client, "small:1", files, client.version()["Arch"], {"bin/sh": 0o755})
    client.close()
    return tag


@pytest.mark.parametrize("act", ["kill", "pause"])
def test_an_engine_that_goes_away_and_comes_back(
    gate: Gate, daemon: engines.Daemon, small: str, tmp_path: Path, act: str
) -> None:
    _checks(
        tmp_path,
        "sandbox.sh('read x </dev/tty; while [ ! -e /never ]; do :; done')"
        if act == "none"
        else "sandbox.sh('sleep 4')",
    )
    text = f"version: 1\ndefaults: {{pull: never, network: none}}\ntasks:\n- {{id: victim, image: '{small}'}}\n"
    text += "".join(f"- {{id: t{n}, image: '{small}'}}\n" for n in range(3))
    (tmp_path / "m.yaml").write_text(text)
    command = [sys.executable, "-m", "pytest", "--images=m.yaml", "--check-path=mine", "--checks=deadly",
               f"--docker-host={daemon.url}"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(300):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.1)
    time.sleep(0.5)
    if act == "kill":
        daemon.kill()
        time.sleep(1)
        daemon.start()
    else:
        assert daemon._process is not None
        daemon._process.send_signal(signal.SIGSTOP)
        time.sleep(8)
        daemon._process.send_signal(signal.SIGCONT)
    output = process.communicate(timeout=200)[0]
    document = json.loads((tmp_path / "results/preflight/verdicts.json").read_text())
    assert {task["task_id"]: task["verdict"] for task in document["tasks"]} == dict.fromkeys(
        ["victim", "t0", "t1", "t2"], "healthy"
    ), output
    assert process.returncode == 0
    assert not (tmp_path / "config").exists()


def test_an_engine_that_goes_away_for_good(gate: Gate, daemon: engines.Daemon, small: str, tmp_path: Path) -> None:
    """Of three engines one dies: the others judge its images."""
    _checks(tmp_path, "sandbox.sh('sleep 4')")
    with engines.dockerd() as second, engines.dockerd() as third:
        for other in (second, third):
            client = docker.DockerClient(base_url=other.url)
            files = {"bin/sh": Path("/bin/busybox").read_bytes()}
            images.load(client, small, files, client.version()["Arch"], {"bin/sh": 0o755})
            client.close()
        ids = ["victim", *[f"t{number}" for number in range(11)]]
        text = "version: 1\ndefaults: {pull: never, network: none}\ntasks:\n"
        (tmp_path / "m.yaml").write_text(text + "".join(f"- {{id: {name}, image: '{small}'}}\n" for name in ids))
        command = [sys.executable, "-m", "pytest", "--images=m.yaml", "--check-path=mine", "--checks=deadly", "-n", "3"]
        # The first worker gets the first case, and the engine that dies under it.
        command += [f"--docker-host={one.url}" for one in (second, daemon, third)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(300):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.1)
        time.sleep(0.5)
        second.kill()
        output = process.communicate(timeout=200)[0]
    document = json.loads((tmp_path / "results/preflight/verdicts.json").read_text())
    assert {task["task_id"]: task["verdict"] for task in document["tasks"]} == dict.fromkeys(ids, "healthy"), output
    assert process.returncode == 0 and not (tmp_path / "config").exists()
