"""What a run promises its operator: no result lost or invented, no agent wasted. On a real engine."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests import running
from tests.running import Run, manifest

DEAD = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def image(client: Any, sound: str) -> str:
    return running.working(client, sound)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def small_disk(run: Run) -> Iterator[Path]:
    """A file system of 4 MiB for the run's folder, `disk/out`."""
    folder = run.folder / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    run.out = folder / "out"
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _start(run: Run, argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def _until(condition: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def _log_of(run: Run, task: str) -> str:
    return "".join(path.read_text() for path in run.out.glob(f".running/{task}.*/agent.log"))


def test_a_done_result_outlives_what_comes_after_it(run: Run, image: str) -> None:
    assert run(manifest(image, "good-1")).status == 0
    first = run.result_of("good-1")
    failed = run(None, "--redo", "--agent=sh -c 'exit 3'")
    assert failed.status == 1 and failed.told() == {"good-1": "failed"}
    lost = run(None, "--redo", "--retries=0", "--agent=sh -c 'exit 75'")
    assert lost.status == 10 and lost.told() == {"good-1": "infra"}
    assert run.result_of("good-1") == first and (run.out / "good-1/prediction.json").exists()
    kept = {
        number: json.loads((run.out / f"good-1/attempts/{number}/result.json").read_text())["status"]
        for number in (1, 2)
    }
    assert kept == {1: "failed", 2: "infra"}
    assert run.status()[1]["good-1"][0] == "infra", "the run that was asked for last has no result"
    assert run(None).told() == {"good-1": "SKIP (done)"}, "and the first one's still counts"
    assert run(None, "--redo").told() == {"good-1": "done"}
    assert run.result_of("good-1")["run"] != first["run"]
    assert json.loads((run.out / "good-1/attempts/3/result.json").read_text()) == first


def test_what_did_not_reach_the_agent_costs_no_agent(run: Run, image: str) -> None:
    assert run(manifest(image, "good-1")).status == 0
    (run.folder / "checks").mkdir()
    (run.folder / "checks/mine.py").write_text(
        "from taskgate.checks import check\n@check()\ndef mine(sandbox):\n    '''Mine.'''\n    return ()\n"
    )
    for defaults, args in ((", timeout: 77", ()), (", checks: {tmp: warn}", ()), ("", ("--check-path=checks",))):
        ran = run(manifest(image, "good-1", defaults=defaults), *args)
        assert ran.told() == {"good-1": "SKIP (done)"}, (defaults, args, ran.output)
    for defaults in (", limits: {memory: 300m}", ", env: {A: b}", ", user: root"):
        ran = run(manifest(image, "good-1", defaults=defaults))
        assert ran.told() == {"good-1": "done"}, (defaults, ran.output)


def test_results_are_not_invented(run: Run, image: str) -> None:
    ids = ["silent-1", "nothing-1", "crashed-1", "late-1", "limited-1", "refused-1"]
    ran = run(manifest(image, *ids), "--retries=0")
    assert ran.told() == {
        "silent-1": "failed", "nothing-1": "done", "crashed-1": "failed", "late-1": "done", "limited-1": "infra",
        "refused-1": "infra",
    }, ran.output  # fmt: skip
    parties = {task: ran.result(task)["failed_by"] for task in ids}
    assert parties == {
        "silent-1": "agent", "nothing-1": None, "crashed-1": "agent", "late-1": None, "limited-1": "endpoint",
        "refused-1": "endpoint",
    }  # fmt: skip
    assert "status 1, and its files do not say that it submitted" in ran.result("crashed-1")["reason"]
    assert "a failure of the endpoint (rate limit: RateLimitError)" in ran.result("limited-1")["reason"]
    assert "authentication: openai.AuthenticationError: Error code: 401" in ran.result("refused-1")["reason"]


def test_a_daemon_that_holds_the_output_does_not_hold_the_agent(run: Run, image: str) -> None:
    ran = run(manifest(image, "daemon-1"), "--time=120")
    assert ran.status == 0 and ran.result("daemon-1")["exit_status"] == 0, ran.output
    assert ran.result("daemon-1")["seconds"] < 60 and ran.result("daemon-1")["stopped"] is None
    assert "last words" in (run.out / "daemon-1/agent.log").read_text()


def test_a_skip_list_that_can_not_be_written_ends_no_agent(run: Run, image: str, client: Any) -> None:
    lost = images.build(client, "taskgate-test/unworkable-2:1", f"FROM {image}\nRUN rm /usr/bin/git")
    (run.folder / "list").mkdir()
    (run.folder / "list/skip.txt").write_text("")
    text = manifest(image, "slow-5-1", "good-1") + f"- {{id: bad, image: '{lost}'}}\n"
    subprocess.run(["mount", "--bind", "-o", "ro", run.folder / "list", run.folder / "list"], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", run.folder / "list"], check=True)
    try:
        ran = run(text, "--skip-list=list/skip.txt", "-j3")
    finally:
        subprocess.run(["umount", "-l", run.folder / "list"], check=True)
    assert ran.told() == {"slow-5-1": "done", "good-1": "done", "bad": "SKIP (validation failed)"}, ran.output
    assert ran.status == 10 and "warning: the skip list was not updated" in ran.output, ran.output


def test_an_engine_that_is_away_makes_nothing_infra(run: Run, image: str) -> None:
    ids = [f"good-{number}" for number in range(8)]
    for hosts in ([DEAD, "unix:///var/run/docker.sock"], ["unix:///var/run/docker.sock", DEAD]):
        ran = run(manifest(image, *ids), "-j2", "--redo", *(f"--docker-host={host}" for host in hosts))
        assert ran.status == 0 and set(ran.told().values()) == {"done"}, ran.output


def test_a_run_in_vain_stops_early(run: Run, image: str) -> None:
    ids = [f"later-{number}" for number in range(12)]
    ran = run(manifest(image, *ids), "-j1", "--retries=0", "--max-infra=2")
    assert ran.status == 10 and len(ran.told()) in (3, 4), ran.output
    assert "tasks ended in infra: nothing new was started (--max-infra)" in ran.output
    assert "the model's server is down" in ran.output and "not begun" in ran.output


def _argv(run: Run, text: str | None, *args: str) -> list[str]:
    return [arg.replace("--out=out", "--out=disk/out") for arg in run.argv(text, *args)]


def test_files_are_fetched_once_there_is_room(run: Run, image: str, small_disk: Path) -> None:
    process = _start(run, _argv(run, manifest(image, "slow-3-1")))
    _until(lambda: "working" in _log_of(run, "slow-3-1"))
    _fill(small_disk / "filler")
    _until(lambda: _ended(run), 60)
    time.sleep(3)
    assert process.poll() is None
    (small_disk / "filler").unlink()
    output = process.communicate(timeout=100)[0]
    assert run.result_of("slow-3-1")["status"] == "done", output


def test_a_run_that_is_killed_before_the_files_are_safe(run: Run, image: str, small_disk: Path, client: Any) -> None:
    process = _start(run, _argv(run, manifest(image, "slow-3-1")))
    _until(lambda: "working" in _log_of(run, "slow-3-1"))
    session = json.loads((run.out / "run.json").read_text())["run"]
    _fill(small_disk / "filler")
    _until(lambda: _ended(run), 60)
    process.kill()
    process.communicate()
    (small_disk / "filler").unlink()
    # Somebody else's run in another folder leaves the container alone.
    other = Run(run.folder / "other")
    other.folder.mkdir()
    assert other(manifest(image, "good-1")).status == 0
    again = run.done(_argv(run, None))
    assert again.status == 0 and "its agent had ended before the run was killed" in again.output, again.output
    assert again.told() == {"slow-3-1": "SKIP (done)"}
    assert run.result_of("slow-3-1")["run"] == session, "no agent was started again"
    assert client.api.containers(all=True, filters={"label": f"taskgate.pid={process.pid}"}) == []


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def _ended(run: Run) -> bool:
    """Has the agent's container ended, with its files still in it?"""
    listed = subprocess.run(
        ["docker", "ps", "-a", "--filter", "label=taskgate.attempt", "--format", "{{.Status}} {{.Labels}}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return any(line.startswith("Exited") and str(run.out) in line for line in listed.splitlines())


@pytest.mark.parametrize("way", ["command", "signal"])
def test_draining(run: Run, image: str, way: str) -> None:
    process = _start(run, run.argv(manifest(image, "slow-30-1", "good-2", "good-3"), "-j1"))
    _until(lambda: "working" in _log_of(run, "slow-30-1"))
    if way == "signal":
        process.send_signal(signal.SIGUSR1)
    else:
        done = run.done([*running.TASKGATE, "stop", "out"])
        assert done.status == 0 and "nothing new is started" in done.output
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130 and "draining" in output and "2 not begun" in output, output
    assert run.result_of("slow-30-1")["status"] == "done" and not (run.out / "good-2").exists()
    assert run.done([*running.TASKGATE, "stop", "out"]).status == 4
    assert run(None).status == 0


def test_logs_of_an_agent_at_work(run: Run, image: str) -> None:
    agent = "--agent=sh -c 'for i in 1 2 3 4 5 6; do printf \"line $i \\033[31m\\n\"; sleep 1; done; agent_run $1' x"
    process = _start(run, run.argv(manifest(image, "good-1"), agent))
    _until(lambda: "line 1" in _log_of(run, "good-1"))
    followed = run.done([*running.TASKGATE, "logs", "out", "good-1", "-f"])
    assert process.communicate(timeout=60) and process.returncode == 0
    assert followed.status == 0 and "line 6 \\x1b[31m\nworking on good-1\n" in followed.output, followed.output
    assert run.done([*running.TASKGATE, "logs", "out", "good-1"]).output == followed.output
    assert run.done([*running.TASKGATE, "logs", "out", "missing"]).status == 4
