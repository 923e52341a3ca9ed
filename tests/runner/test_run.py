"""`taskgate run`: what is run, what is not, what becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import ImageChanged, ImageNotFound, PlatformUnavailable
from taskgate.harness.engine.client import Image
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.runner.attempt import Attempt
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.bookkeeping import Bookkeeping
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runner.task_run import TaskRun
from taskgate.harness.runner.workplace import JudgedTask, Site
from taskgate.harness.tasks.task import Agent, Task
from tests import running
from tests.running import Run, manifest


@pytest.fixture(scope="module")
def image(client: Any, sound: str) -> str:
    return running.working(client, sound)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_run_and_another(run: Run, image: str, client: Any) -> None:
    lost = images.build(client, "taskgate-test/unworkable:1", f"FROM {image}\nRUN rm /usr/bin/git")
    text = manifest(image, "good-1", "good-2", "none-1") + f"- {{id: bad, image: '{lost}'}}\n"
    text += (
        f"- {{id: foreign, image: '{image}', platform: linux/arm64}}\n- {{id: gone, image: 'taskgate-test/Gone:1'}}\n"
    )
    first = run(text)
    assert first.status == 10, first.output
    assert first.told() == {
        "good-1": "done",
        "good-2": "done",
        "none-1": "failed",
        "bad": "SKIP (validation failed)",
        "gone": "SKIP (validation failed)",
        "foreign": "SKIP (incompatible)",
    }
    assert "6 tasks: 2 done, 2 SKIP (validation failed), 1 SKIP (incompatible), 1 failed" in first.output
    assert "3 tasks skipped (0 done before, 3 not worth it), up to 3:00:00 of agents' time" in first.output
    result = first.result("good-1")
    assert result["exit_status"] == 0 and result["digest"].startswith("sha256:") and result["attempts"] == 1
    assert (run.out / "good-1/agent.log").read_text() == "working on good-1\n"
    assert "status 3: there is no trajectory.json" in first.result("none-1")["reason"]
    listed = (run.folder / "config/known_broken_images.txt").read_text().splitlines()
    assert {line for line in listed if not line.startswith("#")} == {"bad", "gone"}
    made = (run.out / "good-1/result.json").stat().st_mtime_ns
    again = run(None)
    assert again.told() == {
        "good-1": "SKIP (done)",
        "good-2": "SKIP (done)",
        "none-1": "failed",
        "bad": "SKIP (broken)",
        "gone": "SKIP (validation failed)",
        "foreign": "SKIP (incompatible)",
    }
    assert (run.out / "good-1/result.json").stat().st_mtime_ns == made
    status, states = run.status()
    assert status == 10 and {task: state for task, (state, _) in states.items()} == {
        "good-1": "done", "good-2": "done", "none-1": "failed", "bad": "skipped", "gone": "skipped",
        "foreign": "incompatible",
    }  # fmt: skip
    kept = run(None, "--keep-failed", "--only=none-1")
    assert kept.status == 1 and "in an earlier run" in kept.output
    # A rebuilt image is checked, and run, by itself.
    images.build(client, "taskgate-test/unworkable:1", f"FROM {image}\nRUN true")
    mended = run(text, "--only=bad")
    assert mended.status == 0 and mended.told()["bad"] == "done", mended.output
    listed = (run.folder / "config/known_broken_images.txt").read_text().splitlines()
    assert {line for line in listed if not line.startswith("#")} == {"gone"}


def test_what_is_not_done(run: Run, image: str) -> None:
    ids = ["cut-1", "other-1", "unnamed-1", "empty-1", "nothing-1", "link-1", "fifo-1", "infra-1", "later-1"]
    ran = run(manifest(image, *ids), "--retries=0")
    assert ran.status == 10, ran.output
    assert {task: what for task, what in ran.told().items() if what != "failed"} == {
        "nothing-1": "done", "infra-1": "infra", "later-1": "infra",
    }  # fmt: skip
    reasons = {task: ran.result(task)["reason"] for task in ids}
    assert "trajectory.json is no JSON, or is cut short" in reasons["cut-1"]
    assert "prediction.json is of another task" in reasons["other-1"]
    assert "trajectory.json names no task" in reasons["unnamed-1"]
    assert "is empty" in reasons["empty-1"]
    assert "no regular file" in reasons["link-1"] or "neither" in reasons["link-1"]
    assert reasons["fifo-1"] and not (run.out / "fifo-1/prediction.json").exists()
    assert "records an infrastructure failure (infra_failure: the model's server answers 503)" in reasons["infra-1"]
    assert "status 75): the model's server is down" in reasons["later-1"]
    assert not (run.out / "link-1/prediction.json").exists()
    assert {state for state, _ in run.status()[1].values()} == {"done", "failed", "infra"}


def test_only_infra_is_tried_again(run: Run, image: str) -> None:
    ran = run(manifest(image, "later-1", "none-1"), "--retries=1")
    assert ran.result("later-1")["attempts"] == 2 and ran.result("none-1")["attempts"] == 1


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("trajectory.json", lambda path: path.write_text(path.read_text()[:-5])),
        ("prediction.json", lambda path: path.write_text("{}")),
        ("prediction.json", lambda path: path.unlink()),
        ("result.json", lambda path: path.write_text(path.read_text()[:30])),
        ("result.json", lambda path: path.write_text(path.read_text().replace('"good-1"', '"good-2"'))),
        ("result.json", lambda path: path.unlink()),
    ],
)
def test_spoilt_results_are_made_again(run: Run, image: str, name: str, spoil: Any) -> None:
    run(manifest(image, "good-1", "good-2"))
    spoil(run.out / "good-1" / name)
    assert run.status()[1]["good-1"][0] in ("failed", "never started")
    again = run(None)
    assert again.told() == {"good-1": "done", "good-2": "SKIP (done)"} and again.status == 0
    assert run.status() == (0, {"good-1": ("done", None), "good-2": ("done", None)})


def test_another_runs_results(run: Run, image: str, client: Any) -> None:
    text = manifest(image, "good-1")
    run(text)
    for args in (["--time=60"], ["--env=MODE=other"], ["--agent=sh -c 'agent_run $1' x"], ["--agent=agent_run"]):
        ran = run(text, *args)
        assert ran.told() == {"good-1": "done"}, ran.output
    assert run(text).told() == {"good-1": "SKIP (done)"}, "the same agent, named in another place"
    # Another build of the image, by the same name.
    other = images.build(client, "taskgate-test/rebuilt:1", f"FROM {image}\nLABEL build=1")
    assert run(manifest(other, "good-1")).told() == {"good-1": "done"}
    assert run(manifest(other, "good-1")).told() == {"good-1": "SKIP (done)"}
    images.build(client, "taskgate-test/rebuilt:1", f"FROM {image}\nLABEL build=2")
    assert run.status()[1]["good-1"][0] == "failed"
    assert run(manifest(other, "good-1")).told() == {"good-1": "done"}


class Moving:
    """A second name of an image, which `rebuild` gives to another build: one without git."""

    def __init__(self, client: Any, image: str) -> None:
        self._client, self._tag = client, secrets.token_hex(4)
        self.name = f"taskgate-test/moving:{self._tag}"
        self._lost = images.build(client, "taskgate-test/without-git:1", f"FROM {image}\nRUN rm /usr/bin/git")
        self._point(image)

    def _point(self, image: str) -> None:
        assert self._client.images.get(image).tag("taskgate-test/moving", self._tag)

    def rebuild(self) -> None:
        self._point(self._lost)


@pytest.fixture
def moving(client: Any, image: str) -> Iterator[Moving]:
    made = Moving(client, image)
    yield made
    client.images.remove(made.name)


def test_an_image_that_is_rebuilt_between_two_attempts_is_judged_anew(
    run: Run, image: str, moving: Moving, client: Any
) -> None:
    text = manifest(moving.name, "one")
    argv = run.argv(text, "--agent=sh -c 'echo at work; sleep 3; exit 75'")
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert _agents(client, process.pid, moving.name)
        moving.rebuild()
    finally:
        output = process.communicate(timeout=100)[0]
    assert run.done(["true"]).told() == {"one": "SKIP (validation failed)"} and process.returncode == 0, output
    assert "git_available" in output and not list(run.out.glob("one*"))


def test_an_image_that_is_rebuilt_during_a_run_is_judged_anew(
    run: Run, image: str, moving: Moving, client: Any
) -> None:
    text = manifest(image, "slow-4-1", "good-1")
    text = text.replace(f"good-1, image: '{image}'", f"good-1, image: '{moving.name}'")
    assert run(text, "--only=good-1").told() == {"good-1": "done"}
    process = subprocess.Popen(run.argv(text, "-j1"), cwd=run.folder, stdout=subprocess.PIPE, text=True)
    try:
        # The engine was asked for what it has by now.
        assert _agents(client, process.pid, image)
        moving.rebuild()
    finally:
        output = process.communicate(timeout=100)[0]
    told = run.done(["true"]).told()
    assert told == {"slow-4-1": "done", "good-1": "SKIP (validation failed)"}, output


@pytest.mark.parametrize("error", [ImageNotFound("it is gone"), PlatformUnavailable("not for this platform")])
def test_an_image_that_cannot_be_pulled_any_more_is_the_gates_to_judge(tmp_path: Path, error: Exception) -> None:
    def image(request: ImageRequest) -> Image:
        raise error

    gate: Any = SimpleNamespace(engine=SimpleNamespace(image=image))
    results = Results(tmp_path)
    bookkeeping = Bookkeeping(
        results, VerdictCache(tmp_path / "cache.jsonl", None), open_skip_list(str(tmp_path / "list")), "s"
    )
    run = TaskRun(
        RunSpec(), results, session="s", bookkeeping=bookkeeping, stopping=threading.Event(),
        draining=threading.Event(),
    )  # fmt: skip
    assert run._already(Task("one", "x:1", pull="always"), gate, "config") is None


def test_an_agent_is_put_on_the_image_that_was_judged(tmp_path: Path) -> None:
    """Without a pull of its own, which could bring another one."""
    requests: list[ImageRequest] = []

    def image(request: ImageRequest) -> Image:
        requests.append(request)
        return Image("sha256:new", "linux/amd64", "", {}, False)

    task = Task("one", "x:1", pull="always", agent=Agent(run=("agent",)))
    engine: Any = SimpleNamespace(image=image)
    site = Site(engine, "s", None, threading.Semaphore(1), threading.Event())  # type: ignore[arg-type]
    judged = JudgedTask(task, ("sha256:old",), "config")
    record = AttemptRecord("one", "x:1", [], "config", "s", "2026-01-01", 1)
    attempt = Attempt(site, judged, RunSpec(), tmp_path, record, lambda: engine)
    with pytest.raises(ImageChanged, match="x:1 is sha256:new now, and sha256:old was judged"):
        attempt.run()
    assert [request.pull for request in requests] == ["missing"]


def test_budget_and_limits(run: Run, image: str) -> None:
    rows = [
        "{id: never-1, budget: {seconds: 3}}",
        "{id: patient-1, budget: {seconds: 3}}",
        "{id: hog-1, limits: {memory: 96m}}",
        "{id: writer-1, limits: {disk: 100m}}",
        "{id: forks-1, limits: {pids: 64}, budget: {seconds: 5}}",
    ]
    ran = run(manifest(image, *rows), "-j5", "--calls=7", "--time=100")
    assert ran.status == 1, ran.output
    # What was whole when the time was up counts.
    assert ran.told() == {
        "never-1": "done", "patient-1": "failed", "hog-1": "done", "writer-1": "done", "forks-1": "done",
    }  # fmt: skip
    assert ran.result("never-1")["stopped"] == "ran out of its 3 s" and 3 <= ran.result("never-1")["seconds"] < 60
    assert ran.result("patient-1")["reason"].startswith("the agent ran out of its 3 s: there is no trajectory.json")
    assert ran.result("hog-1")["stopped"] == "ran out of its 0.0938 GiB of memory"
    assert ran.result("writer-1")["stopped"] == "wrote more than its 100 MiB of disk"
    assert ran.result("forks-1")["stopped"] == "ran out of its 5 s"


def test_secrets_reach_the_agent_alone(run: Run, image: str) -> None:
    told = run.folder / "token"
    told.write_text("file-secret-77\n")
    ran = run(
        manifest(image, "telling-1", defaults=", env: {COLOUR: green}"),
        "--secret=TOKEN", f"--secret=OTHER={told}", "--env=SHAPE=round", "--agent=sh -c 'agent_run \"$@\"; sleep 2' x",
        env={"TOKEN": "token-secret-4711"},
    )  # fmt: skip
    assert ran.status == 0, ran.output
    log = (run.out / "telling-1/agent.log").read_text()
    assert "'COLOUR': 'green'" in log and "'SHAPE': 'round'" in log and "'TOKEN': '[TOKEN]'" in log
    assert "a half: [TOKEN]" in log and "'OTHER': '[OTHER]'" in log
    for path in [*run.out.rglob("*"), run.folder / "results"]:
        if path.is_file():
            assert b"token-secret-4711" not in path.read_bytes() and b"file-secret-77" not in path.read_bytes()
    assert "secret-4711" not in ran.output


def test_secrets_are_in_no_reason(run: Run, image: str) -> None:
    """The agent's own files are as it left them; what taskgate quotes of them is not."""
    ran = run(manifest(image, "excuse-1"), "--secret=TOKEN", "--retries=0", env={"TOKEN": "token-secret-4711"})
    assert ran.status == 10, ran.output
    assert "... 401 for the key [TOKEN]" in ran.result("excuse-1")["reason"]
    told = [path for path in run.folder.rglob("*") if path.is_file() and path.name != "trajectory.json"]
    assert "secret-4711" not in ran.output and run.out / "journal.jsonl" in told
    assert not [path for path in told if b"secret-4711" in path.read_bytes()]


def test_secrets_are_in_no_description(run: Run, image: str, client: Any) -> None:
    argv = run.argv(manifest(image, "slow-8-1"), "--secret=TOKEN")
    process = subprocess.Popen(
        argv, cwd=run.folder, env={**os.environ, "TOKEN": "token-secret-4711"}, stdout=subprocess.PIPE
    )
    try:
        for container in _agents(client, process.pid, image):
            about = json.dumps(client.api.inspect_container(container))
            for exec_id in client.api.inspect_container(container)["ExecIDs"] or ():
                about += json.dumps(client.api.exec_inspect(exec_id))
            assert "agent_run" in about and "secret-4711" not in about
    finally:
        assert process.communicate(timeout=100) and process.returncode == 0


def _agents(client: Any, pid: int, image: str) -> list[str]:
    """The containers in which an agent of process `pid` is at work."""
    for _ in range(300):
        found = client.api.containers(filters={"label": f"taskgate.pid={pid}"})
        busy = [
            one["Id"]
            for one in found
            if one["Image"] == image or one["ImageID"] == client.images.get(image).id
            if client.api.inspect_container(one["Id"])["ExecIDs"]
        ]
        if busy:
            return busy
        time.sleep(0.05)
    raise AssertionError("no agent was started")


def test_limits_and_the_log_while_it_runs(run: Run, image: str, client: Any) -> None:
    row = "{id: slow-6-1, limits: {cpus: 0.5, pids: 99, memory: 300m}}"
    process = subprocess.Popen(run.argv(manifest(image, row)), cwd=run.folder, stdout=subprocess.PIPE)
    try:
        (container,) = _agents(client, process.pid, image)
        limits = client.api.inspect_container(container)["HostConfig"]
        assert (limits["NanoCpus"], limits["PidsLimit"], limits["Memory"]) == (500_000_000, 99, 300 << 20)
        (log,) = run.out.glob(".running/slow-6-1.*/agent.log")
        for _ in range(50):
            if log.read_text() == "working on slow-6-1\n":
                break
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
    finally:
        assert process.communicate(timeout=100) and process.returncode == 0


def test_the_progress_on_a_terminal(run: Run, image: str) -> None:
    inner, outer = pty.openpty()
    command = run.argv(manifest(image, "good-1", "good-2"))
    process = subprocess.Popen(
        command,
        cwd=run.folder,
        stdout=outer,
        stderr=outer,
        stdin=outer,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(outer)
    said = b""
    with contextlib.suppress(OSError):
        while piece := os.read(inner, 65536):
            said += piece
    assert process.wait(timeout=100) == 0
    assert b"2/2" in said and b"done 2" in said and b"good-1" in said


def test_an_output_that_nobody_reads(run: Run, image: str) -> None:
    process = subprocess.Popen(
        run.argv(manifest(image, "good-1", "good-2"), "-j1"),
        cwd=run.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait(timeout=100) == 0 and process.stderr.read() == b""
    assert run.status()[0] == 0


def test_submissions_and_inputs(run: Run, image: str) -> None:
    folder = run.folder / "in/reads-1"
    folder.mkdir(parents=True)
    (folder / "problem.txt").write_text("it is broken")
    rows = [
        "{id: submits-1, submission: submission.tar.gz}",
        "{id: submits-2, submission: /testbed/out.tgz}",
        "{id: damages-1, submission: submission.tar.gz}",
        "{id: good-1, submission: submission.tar.gz}",
        "reads-1",
    ]
    ran = run(manifest(image, *rows), "--inputs=in")
    assert ran.told() == {
        "submits-1": "done", "submits-2": "done", "damages-1": "failed", "good-1": "failed", "reads-1": "done",
    }, ran.output  # fmt: skip
    assert (run.out / "submits-2/out.tgz").stat().st_size > 100
    assert "submission.tar.gz is damaged" in ran.result("damages-1")["reason"]
    assert "there is no submission.tar.gz, which the task asks for" in ran.result("good-1")["reason"]
    assert json.loads((run.out / "reads-1/trajectory.json").read_text())["read"] == "it is broken"
    (run.out / "submits-1/submission.tar.gz").write_bytes(b"")
    (folder / "problem.txt").write_text("it is quite broken")
    again = run(None, "--inputs=in")
    assert again.told()["submits-1"] == again.told()["reads-1"] == "done"
    assert again.told()["submits-2"] == "SKIP (done)"


def test_files_that_the_image_brings_are_not_the_agents(run: Run, image: str, client: Any) -> None:
    """As in one that was made of the container of an earlier attempt."""
    document = json.dumps({"task_id": "one", "steps": [1], "model_patch": "a patch"})
    lines = [f"FROM {image}"]
    for folder in ("/.taskgate-out", "/.taskgate-in"):
        lines += [f"RUN mkdir {folder} && echo '{document}' | tee {folder}/trajectory.json >{folder}/prediction.json"]
    lines += ["RUN tar czf /testbed/out.tgz -C /testbed src"]
    used = images.build(client, "taskgate-test/used:1", "\n".join(lines))
    text = manifest(
        used, "one", "{id: good-1, submission: /testbed/out.tgz}", "{id: submits-1, submission: /testbed/out.tgz}"
    )
    ran = run(text, "--agent=sh -c 'test $1 != one || exit 1; agent_run $1' x")
    assert ran.told() == {"one": "failed", "good-1": "failed", "submits-1": "done"}, ran.output
    assert "status 1: there is no trajectory.json" in ran.result("one")["reason"]
    assert "there is no out.tgz, which the task asks for: the agent has not written" in ran.result("good-1")["reason"]
    (run.folder / "in/one").mkdir(parents=True)
    (run.folder / "in/one/problem.txt").write_text("")
    ran = run(text, "--only=one", "--inputs=in", "--agent=sh -c 'echo inputs: $(ls $TASKGATE_IN)'")
    assert (run.out / "one/agent.log").read_text() == "inputs: problem.txt\n"


def test_odd_ids(run: Run, image: str) -> None:
    ids = ["good-a/b", "good-%2F", "good-" + "x" * 400, "good-ü 1", ".good-hidden", "journal.jsonl"]
    ran = run(manifest(image, *[f"{{id: '{task}'}}" for task in ids]), "-j3")
    assert ran.status == 0, ran.output
    assert run.status() == (0, dict.fromkeys(ids, ("done", None)))
    assert (run.out / "good-a%2Fb/prediction.json").exists() and (run.out / "good-ü 1").exists()
    assert set(run(None).told().values()) == {"SKIP (done)"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_run(run: Run, image: str, client: Any, number: signal.Signals) -> None:
    argv = run.argv(manifest(image, "good-1", "patient-1", "patient-2", "good-2"), "-j2")
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(300):
        at_work = client.api.containers(filters={"label": f"taskgate.pid={process.pid}"})
        if (
            sum("taskgate.pause" not in one["Labels"] for one in at_work) == 2
            and (run.out / "good-1/result.json").exists()
        ):
            break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output and "stopping" in output
    assert client.api.containers(all=True, filters={"label": f"taskgate.pid={process.pid}"}) == []
    states = {task: state for task, (state, _) in run.status()[1].items()}
    assert states["good-1"] == "done" and set(states.values()) == {"done", "never started"}, output
    assert not list(run.out.glob(".running/*"))
    # The same command goes on.
    text = (run.folder / "m.yaml").read_text()
    ran = run(text, "--only=good-1", "--only=good-2")
    assert ran.status == 0 and ran.told()["good-1"] == "SKIP (done)"


def test_stopped_twice(run: Run, image: str, client: Any) -> None:
    argv = run.argv(manifest(image, "patient-1"))
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    _agents(client, process.pid, image)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 130
    # Its containers end with its connections; the next run removes them.
    assert run(None, "--only=patient-1", "--time=1").status == 1
    assert client.api.containers(all=True, filters={"label": f"taskgate.pid={process.pid}"}) == []


def test_two_runs_in_one_folder(run: Run, image: str, client: Any) -> None:
    argv = run.argv(manifest(image, "patient-1"))
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE)
    try:
        _agents(client, process.pid, image)
        other = run(None)
        assert other.status == 4 and "another run is at work in out" in other.output
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--agent="], "--agent"),
        (["--agent=missing.yaml"], "missing.yaml"),
        (["--agent='"], "--agent: can't be split"),
        (["--secret=NOT_SET_ANYWHERE"], "--secret: NOT_SET_ANYWHERE is not set"),
        (["--secret=A B"], "--secret"),
        (["--env=novalue"], "--env"),
        (["--time=0"], "--time"),
        (["--calls=0"], "--calls"),
        (["--jobs=0"], "--jobs"),
        (["--retries=-1"], "--retries"),
        (["--inputs=nowhere"], "--inputs"),
        (["--only=nobody"], "there is no task 'nobody'"),
        (["--endpoint=ftp://x"], "--endpoint"),
        (["--endpoint=http://x/?a=b"], "--endpoint"),
        (["--endpoint-header=A: b"], "--endpoint-header: needs an --endpoint"),
        (["--endpoint=http://x", "--endpoint-header=A: {NOT_SET_ANYWHERE}"], "--endpoint-header"),
        (["--driver=true"], "--driver: a driver needs a server"),
        (["--shard=3/2"], "--shard"),
        (["--max-age=old"], "--max-age"),
    ],
)
def test_mistakes(run: Run, image: str, args: list[str], said: str) -> None:
    ran = run(manifest(image, "good-1"), *args)
    assert ran.status == 4 and said in ran.output and "Traceback" not in ran.output
    assert not (run.out / "good-1").exists()


def test_mistakes_in_the_manifest(run: Run, image: str) -> None:
    text = f"version: 1\ntasks:\n- {{id: a, image: '{image}', repo_path: null, agent: {{command: 'true'}}}}\n"
    ran = run(text)
    assert ran.status == 4 and "m.yaml: a: no agent that can be run" in ran.output
    (run.folder / "agent.yaml").write_text("{server: x, port: 0}")
    assert "agent.yaml:1: agent.port: must be a whole number from 1 to 65535" in run(text, "--agent=agent.yaml").output
    done = run.done([*running.TASKGATE, "status", "nowhere"])
    assert done.status == 4 and "not the folder of a run" in done.output
    (run.folder / "file").write_text("")
    done = run.done([*running.TASKGATE, "run", "--images=m.yaml", "--out=file", "--agent=agent_run"])
    assert done.status in (4, 10) and "Traceback" not in done.output


def test_an_agent_that_is_not_there(run: Run, image: str) -> None:
    ran = run(manifest(image, "good-1"), "--agent=no-such-agent")
    assert ran.status == 1 and "the agent can't be started" in ran.result("good-1")["reason"]
    # The manifest's own is looked for by the gate.
    ran = run(manifest(image, "good-1").replace("[agent_run]", "[no-such-agent]"))
    assert ran.told() == {"good-1": "SKIP (validation failed)"}
    assert "agent_start: the agent's program no-such-agent is not on PATH" in ran.output


def test_a_run_with_other_settings_that_is_killed_at_once(run: Run, image: str, client: Any) -> None:
    """What an earlier one has done is not this one's, until it has done or looked at it itself."""
    text = manifest(image, "good-1", "none-1", "good-2")
    text += f"- {{id: bad, image: '{image}', require: {{files: [/none]}}}}\n"
    assert run(text).status == 1
    assert run.status()[0] == 1
    # A second run is held up at its first task, of which it leaves no word.
    text = manifest(image, "patient-1", "good-1", "none-1", "good-2") + text.splitlines(keepends=True)[-1]
    argv = run.argv(text, "-j1", "--env=VERSION=2")
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    _agents(client, process.pid, image)
    process.kill()
    process.communicate(timeout=20)
    status, states = run.status()
    assert status == 10 and {state for state, _ in states.values()} == {"never started"}, states
    assert states["good-1"][1] == "its result was made with other settings"
    # The same one goes on: what it has done by now is its own.
    assert run(None, "--env=VERSION=2", "--time=1", "--only=good-1").status == 0
    assert run.status() == (0, {"good-1": ("done", None)})
    # And one of the first one's settings finds nothing changed of what is left of that.
    process = subprocess.Popen(run.argv(text, "-j1"), cwd=run.folder, stdout=subprocess.PIPE)
    _agents(client, process.pid, image)
    process.kill()
    process.communicate(timeout=20)
    states = run.status()[1]
    assert {name: state for name, (state, _) in states.items()} == {
        "patient-1": "never started", "good-1": "never started", "none-1": "failed", "good-2": "done",
        "bad": "skipped",
    }, states  # fmt: skip


def test_a_kill_between_a_result_and_its_line(run: Run, image: str) -> None:
    run(manifest(image, "good-1"), "--time=50")
    kept = (run.out / "journal.jsonl").read_text()
    # Another run's result, and the line on it was never written.
    run(None, "--time=60")
    (run.out / "journal.jsonl").write_text(kept)
    assert run.status() == (0, {"good-1": ("done", None)})
    (run.out / "journal.jsonl").unlink()
    assert run.status() == (0, {"good-1": ("done", None)})
    assert run(None, "--time=60").told() == {"good-1": "SKIP (done)"}


def test_a_disk_that_is_full(run: Run, image: str) -> None:
    """No room for the results: told as what it is, and nothing half-written is taken for done."""
    folder = run.folder / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        (folder / "filler").write_bytes(b"x" * 40 * 1024)
        argv = [
            arg.replace("--out=out", "--out=small/out") for arg in run.argv(manifest(image, "good-1", "good-2"), "-j1")
        ]
        (folder / "out").mkdir()
        (folder / "more").write_bytes(b"x" * 12 * 1024)
        full = run.done(argv)
        assert full.status == 10 and "No space left" in full.output and "Traceback" not in full.output, full.output
        (folder / "filler").unlink()
        (folder / "more").unlink()
        assert run.done(argv).status == 0
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
