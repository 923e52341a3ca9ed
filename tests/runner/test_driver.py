"""Drivers: what they are given, what their failures are called, and that none outlives its run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples import images
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.runner import driver
from taskgate.harness.sandbox.log_file import LogFile
from tests.running import Run
from tests.sandbox.cleanroom import tools

__all__ = ["tools"]

# As relays have them; digests are longer.
KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{48}(?![0-9a-f])")
DRIVER = """
import json, os, pathlib, subprocess, sys, time, urllib.request
task = json.loads(os.environ["TASKGATE_TASK"])
assert sys.argv[1] == task["task_id"] == os.environ["TASKGATE_TASK_ID"]
act = task["task_id"].partition("-")[0]
os.chdir("/")
name, _, value = os.environ["TASKGATE_HEADER"].partition(": ")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def post(path, headers):
    request = urllib.request.Request(os.environ["TASKGATE_URL"] + path, json.dumps(task).encode(), headers)
    return json.load(opener.open(request))
# The URL alone is enough; the header does no harm.
prediction = post("/run", {} if act == "works" else {name: value})
print("driven", os.environ["TOKEN"], os.environ["TASKGATE_URL"], flush=True)
out = pathlib.Path(os.environ["TASKGATE_OUT"])
assert out.is_absolute() and out.is_dir()
if act == "leaves":
    (out / "prediction.json").write_text(json.dumps({**prediction, "by": "driver"}))
if act == "fails":
    print("first reason", file=sys.stderr)
    print("last reason: the quota of", os.environ["TOKEN"], "is used up", file=sys.stderr)
    sys.exit(3)
if act == "later":
    print("the model is down")
    sys.exit(75)
if act == "killed":
    os.kill(os.getpid(), 9)
if act == "sleeps":
    # One that leaves the session, and one that is nobody's child any more.
    subprocess.Popen(["sleep", sys.argv[2]], start_new_session=True)
    subprocess.run(["sh", "-c", f"setsid sleep {sys.argv[2]} & exec sleep 0"])
    subprocess.Popen(["sleep", sys.argv[2]])
    time.sleep(999)
"""


def served(image: str, *rows: str) -> str:
    head = "version: 1\ndefaults: {repo_path: /testbed, pull: never, network: none"
    head += ", agent: {server: [python3, -m, agent, --serve]}}\ntasks:\n"
    return head + "".join(f"- {{id: {row}, image: '{image}'}}\n" for row in rows)


@pytest.fixture(scope="module")
def demo(client: Any) -> str:
    images.demo(client)
    return "taskgate-demo/sound:1"


def sleepers(seconds: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-2:] == ["sleep", str(seconds)] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def gone(seconds: int, patience: float = 20) -> bool:
    deadline = time.monotonic() + patience
    while sleepers(seconds) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not sleepers(seconds)


@pytest.mark.slow
def test_what_drivers_are_given_and_what_becomes_of_them(tmp_path: Path, demo: str, tools: Any) -> None:
    (tmp_path / "driver.py").write_text(DRIVER.replace("sys.argv[2]", "'47110'"))
    run = Run(tmp_path)
    # --out is relative: the driver changes its folder and finds it all the same.
    ran = run(
        served(demo, "works", "leaves", "fails", "later", "killed", "sleeps, budget: {seconds: 25}"),
        f"--driver=python3 {tmp_path}/driver.py", "--secret=TOKEN", "--retries=0", env={"TOKEN": "token-secret-4711"},
    )  # fmt: skip
    assert ran.told() == {
        "works": "done", "leaves": "done", "fails": "failed", "later": "infra", "killed": "failed", "sleeps": "done",
    }, ran.output  # fmt: skip
    left = json.loads((run.out / "leaves/prediction.json").read_text())
    assert left["model_patch"] and "by" not in left, "the agent's own file takes precedence"
    log = (run.out / "works/agent.log").read_text()
    assert "[driver] driven [TOKEN] http://127.0.0.1:" in log and "/[TASKGATE_KEY]\n" in log, log
    assert '[server] "POST /run' in log and all(line.startswith("[") for line in log.splitlines())
    reason = ran.result("fails")["reason"]
    assert reason.startswith("the driver ended with status 3: ") and "POST /run" not in reason
    assert reason.endswith("first reason\nlast reason: the quota of [TOKEN] is used up")
    assert "status 75): " in ran.result("later")["reason"] and "the model is down" in ran.result("later")["reason"]
    assert "status -9" in ran.result("killed")["reason"]
    assert ran.result("sleeps")["stopped"] == "ran out of its 25 s"
    assert sleepers(47110) == [], "what the driver started is over, wherever it moved to"
    assert not list(run.out.glob(f"*/{driver.RECORD}"))
    for path in run.out.rglob("*"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        assert "token-secret" not in text and not KEY.search(text), f"{path} has a secret or the key"


def test_a_driver_ends_with_a_run_that_is_killed(tmp_path: Path, demo: str, tools: Any) -> None:
    (tmp_path / "driver.py").write_text(DRIVER.replace("sys.argv[2]", "'47111'"))
    run = Run(tmp_path)
    argv = run.argv(served(demo, "sleeps"), f"--driver=python3 {tmp_path}/driver.py", "--secret=TOKEN")
    environment = {**os.environ, "TOKEN": "token-secret-4711"}
    process = subprocess.Popen(
        argv, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while len(sleepers(47111)) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    assert gone(47111)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("/nonexistent/driver", "--driver: /nonexistent/driver does not exist"),
        ("no-such-program --x", "--driver: no-such-program is not on PATH"),
        ("./not-executable", "--driver: ./not-executable is not an executable file"),
        ("python3 missing.py", "--driver: python3 is to run missing.py, which does not exist"),
        ("./bad-interpreter", "its interpreter /nonexistent/python does not exist"),
    ],
)
def test_one_that_can_not_be_started_is_a_mistake(tmp_path: Path, demo: str, command: str, problem: str) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "bad-interpreter").write_text("#!/nonexistent/python\n")
    (tmp_path / "bad-interpreter").chmod(0o755)
    run = Run(tmp_path)
    ran = run(served(demo, "a"), f"--driver={command}")
    assert ran.status == 4 and problem in ran.output and "Traceback" not in ran.output, ran.output
    assert not run.out.exists()


# Without an engine.


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    log = LogFile(tmp_path / "agent.log", {})
    yield log
    log.close()


def _drive(argv: list[str], folder: Path, log: LogFile, **more: Any) -> driver.Driven:
    given: dict[str, Any] = {"go_on": lambda: True, "environment": {}, **more}
    return driver.drive(
        argv, url="http://127.0.0.1:1/key", header="X: y", task={"task_id": "t"}, folder=folder, log=log, **given
    )


def test_a_daemon_that_holds_its_output_ends_with_it(tmp_path: Path, log: LogFile) -> None:
    begun = time.monotonic()
    assert _drive(["sh", "-c", "setsid sleep 47112 & echo over"], tmp_path, log).status == 0
    assert time.monotonic() - begun < 20 and sleepers(47112) == []


def test_lines_of_any_length(tmp_path: Path, log: LogFile) -> None:
    driven = _drive(
        [sys.executable, "-c", "print('x' * 300_000, end=''); print(); print('end', end='')"], tmp_path, log
    )
    text = (tmp_path / "agent.log").read_text()
    assert driven.status == 0 and driven.tail.endswith("x\nend") and len(driven.tail) < 2000
    assert text.count("x") == 300_000 and text.endswith("[driver] end\n")


def test_one_that_can_not_be_executed_is_nobodys_failure(tmp_path: Path, log: LogFile) -> None:
    path = tmp_path / "no-header"
    path.write_text("echo\n")
    path.chmod(0o755)
    with pytest.raises(InfraError, match="Exec format error"):
        _drive([str(path)], tmp_path, log)


def test_leftovers_of_a_run_whose_guards_were_killed_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "task.x"
    folder.mkdir()
    program = (
        "import sys; from pathlib import Path; from taskgate.harness.runner import driver\n"
        "from taskgate.harness.sandbox.log_file import LogFile\n"
        f"folder = Path({str(folder)!r}); log = LogFile(folder / 'agent.log', {{}})\n"
        "driver.drive(['sh', '-c', 'sleep 47113 & sleep 47113'], url='', header='', task={'task_id': 't'},\n"
        "    folder=folder, environment={}, log=log, go_on=lambda: True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 60
        while len(sleepers(47113)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        record = json.loads((folder / driver.RECORD).read_text())
        os.kill(record["pid"], signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert len(sleepers(47113)) == 2, "nobody was there to end them"
    driver.end_leftovers(tmp_path)
    assert gone(47113)


def test_a_number_that_another_process_has_now_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "47114"], start_new_session=True)
    try:
        (tmp_path / "task.x").mkdir()
        record = {"pid": other.pid, "created": psutil.Process(other.pid).create_time() + 100}
        (tmp_path / "task.x" / driver.RECORD).write_text(json.dumps(record))
        driver.end_leftovers(tmp_path)
        time.sleep(0.5)
        assert other.poll() is None
        for text in ("", "[]", '{"pid": "x"}', '{"pid": -1, "created": 0}'):
            (tmp_path / "task.x" / driver.RECORD).write_text(text)
            driver.end_leftovers(tmp_path)
    finally:
        other.kill()
        other.wait()


def test_options_are_not_taken_for_scripts() -> None:
    driver.check(["python3", "-c", "pass"])
    driver.check(["sh", "-c", "exit"])
    with pytest.raises(UsageError):
        driver.check(["sh", "no-such-script"])
