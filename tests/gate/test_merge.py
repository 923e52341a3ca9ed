"""Shards on machines of their own, and `taskgate merge`, which proves that together they are the whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.reports import verdicts
from taskgate.reports.journal import Journal
from tests.conftest import Gate
from tests.running import TASKGATE

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never}\ntasks:\n"


def merge(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TASKGATE, "merge", *args, "--images=m.yaml", "--out=all"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, sound: str) -> Path:
    """Three shards' folders, a and b and c, and the manifest."""
    folder = tmp_path_factory.mktemp("shards")
    rows = "".join(f"- {{id: t{number}, image: '{sound}'}}\n" for number in range(12))
    (folder / "m.yaml").write_text(HEAD + rows + "- {id: gone, image: 'taskgate-test/Gone:1'}\n")
    for number, name in enumerate("abc", 1):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:hypothesispytest",
            "--images=m.yaml",
            f"--shard={number}/3",
            f"--out={name}",
        ]
        command += [f"--skip-list={name}.txt", "--checks=git_available", "-q"]
        subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=100)
    return folder


@pytest.fixture
def parts(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "parts"))


def test_the_whole(parts: Path, gate: Gate, sound: str) -> None:
    done = merge(parts, "a", "b", "c", "--skip-list=list.txt")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "13 images: 12 healthy, 1 broken, 0 incompatible, 0 infra" in done.stdout
    document = json.loads((parts / "all/verdicts.json").read_text())
    assert document["complete"] and document["unchecked"] == []
    assert [task["task_id"] for task in document["tasks"]] == [*[f"t{number}" for number in range(12)], "gone"]
    assert "gone" in (parts / "list.txt").read_text().splitlines()
    assert len((parts / "all/journal.jsonl").read_text().splitlines()) == 13
    assert merge(parts, "a", "b", "c", "--max-broken=10%").returncode == 0
    # From the joined cache a run makes the report, and starts nothing.
    run = gate((parts / "m.yaml").read_text(), f"--out={parts}/all", "--checks=git_available")
    assert run.status == 1 and "12 known from before" in run.output, run.output


def test_what_is_missing_and_what_is_there_twice(parts: Path) -> None:
    done = merge(parts, "a", "c")
    assert done.returncode == 10 and "without a verdict: " in done.stdout
    assert not json.loads((parts / "all/verdicts.json").read_text())["complete"]
    done = merge(parts, "a", "b", "c", "a")
    assert done.returncode == 10 and "judged twice: " in done.stdout and "(a, a)" in done.stdout
    (parts / "m.yaml").write_text((parts / "m.yaml").read_text().replace("- {id: t3,", "- {id: other,"))
    done = merge(parts, "a", "b", "c")
    assert (
        done.returncode == 10 and "not in the manifest: t3" in done.stdout and "without a verdict: other" in done.stdout
    )


def test_a_shard_that_was_killed(parts: Path) -> None:
    """Its journal tells as far as it came."""
    (parts / "b/verdicts.json").unlink()
    lines = (parts / "b/journal.jsonl").read_text().splitlines(keepends=True)
    (parts / "b/journal.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])
    done = merge(parts, "a", "b", "c")
    assert done.returncode == 10 and f"without a verdict: {json.loads(lines[-1])['task_id']}" in done.stdout


def test_mistakes(parts: Path) -> None:
    for args, said in (
        (["nowhere"], "OUT: nowhere is no part of a run"),
        (["a", "--max-broken=x"], "--max-broken"),
        (["all", "a"], "--out: all is one of the parts"),
    ):
        (parts / "all").mkdir(exist_ok=True)
        done = merge(parts, *args)
        assert done.returncode == 4 and said in done.stderr and "Traceback" not in done.stderr
    (parts / "a/verdicts.json").write_text("{")
    done = merge(parts, "a")
    assert done.returncode == 4 and "a/verdicts.json: can't be read" in done.stderr


def test_a_report_on_the_whole(parts: Path) -> None:
    """Out of what was put together: nothing is judged, no engine is asked, nothing is written but the reports."""
    assert merge(parts, "a", "b", "c").returncode == 1
    before = {path: path.read_bytes() for path in (parts / "all").iterdir()}
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", "--replay=all"]
    command += ["--out=elsewhere", "--html=r.html", "--self-contained-html", "--junitxml=j.xml"]
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere"}
    for more in ([], ["-n", "2"]):
        done = subprocess.run(
            [*command, *more], cwd=parts, env=env, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "12 healthy" in done.stdout and "taskgate-test/Gone:1" in (parts / "r.html").read_text()
        assert 'failures="1"' in (parts / "j.xml").read_text()
    assert before == {path: path.read_bytes() for path in (parts / "all").iterdir()}
    assert not (parts / "elsewhere").exists() and not (parts / "config").exists()


def test_a_report_on_a_part(parts: Path) -> None:
    """What it holds no verdict on fails the gate closed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", "--replay=a"]
    done = subprocess.run(command, cwd=parts, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 10 and "a holds no verdict on it" in done.stdout
    wrong = [*command[:-1], "--replay=nowhere"]
    done = subprocess.run(wrong, cwd=parts, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 4 and "nowhere is no part of a run" in done.stderr


# Ends the whole run at the task that the environment names, as kill -9 does.
DEADLY = """
import os, signal
from taskgate.checks import check

@check()
def deadly(sandbox):
    '''A check of these tests.'''
    if sandbox.task.id == os.environ.get("DEADLY"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def nights(tmp_path: Path, client: Any, sound: str) -> Callable[..., int]:
    """A night's run of three tasks in the same folder; on a rebuilt image, or killed at a task."""
    text = HEAD + "".join(f"- {{id: {name}, image: 'taskgate-test/nightly:1'}}\n" for name in "abc")
    (tmp_path / "m.yaml").write_text(text)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/deadly.py").write_text(DEADLY)

    def run(layer: str, *args: str, deadly: str = "") -> int:
        images.build(client, "taskgate-test/nightly:1", f"FROM {sound}\nRUN {layer}")
        command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", "--out=part", "-q"]
        command += ["--check-path=mine", "--checks=git_available,deadly", "--skip-list=list.txt", *args]
        env = {**os.environ, "DEADLY": deadly}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=100).returncode

    return run


def replay(folder: Path, part: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", f"--replay={part}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


def test_a_second_night_that_is_killed(nights: Callable[..., int], tmp_path: Path) -> None:
    """What the first one found out is not the second one's, also where that came to no verdict at all."""
    assert nights("true") == 0
    assert merge(tmp_path, "part").returncode == 0
    assert nights("rm /usr/bin/git", "--shard=1/1", deadly="b") == -signal.SIGKILL
    done = merge(tmp_path, "part")
    assert done.returncode == 10 and "3 images: 0 healthy, 1 broken" in done.stdout, done.stdout
    assert "without a verdict: b, c" in done.stdout
    again = replay(tmp_path, "part")
    assert again.returncode == 10 and "1 broken, 2 infra" in again.stdout, again.stdout
    told = json.loads((tmp_path / "part/verdicts.json").read_text())
    assert told["under_way"] and not told["complete"] and told["unchecked"] == ["a", "b", "c"]
    # Without the document, the journal's last run counts.
    (tmp_path / "part/verdicts.json").unlink()
    assert "without a verdict: b, c" in merge(tmp_path, "part").stdout
    assert "1 broken, 2 infra" in replay(tmp_path, "part").stdout
    assert nights("true", "--recheck", deadly="a") == -signal.SIGKILL
    assert "without a verdict: a, b, c" in merge(tmp_path, "part").stdout
    # The next one is whole again.
    assert nights("true") == 0 and merge(tmp_path, "part").returncode == 0


def test_a_run_that_judges_nothing_leaves_the_verdicts(nights: Callable[..., int], tmp_path: Path) -> None:
    assert nights("true") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "part").iterdir()}
    for more in (["--collect-only"], ["-k", "nothing"], ["--shard=9/3"], ["--max-broken=x"], ["--replay=part"]):
        nights("true", *more)
    assert before == {path: path.read_bytes() for path in (tmp_path / "part").iterdir()}


def test_what_is_judged_while_the_folder_balances_it(nights: Callable[..., int], tmp_path: Path) -> None:
    """The durations are read before the run begins in the same folder, once for all workers."""
    assert nights("true") == 0
    assert nights("true", "-n", "2", "--shard=1/2", "--balance=part") == 0
    # And the next one, of a run that was killed before its first verdict.
    assert nights("true", "--recheck", deadly="a") == -signal.SIGKILL
    assert nights("true", "--shard=1/2", "--balance=part", "--collect-only") == 0


def part(folder: Path, *records: Record) -> None:
    """A part's folder as a run leaves it."""
    tally = Tally(manifest_ids=[record.task_id for record in records])
    kept = Journal(folder / "journal.jsonl", "r1")
    for record in records:
        tally.add(record)
        kept.write(record)
    verdicts.write(folder / "verdicts.json", tally)


def healthy(task_id: str, image: str, digest: str = "sha256:1") -> Record:
    return Record(task_id, image, digest, "linux/amd64", Verdict.HEALTHY, started="2026-01-01T00:00:00.000+00:00")


def test_a_verdict_on_another_image_is_none_on_the_tasks_own(tmp_path: Path) -> None:
    part(tmp_path / "part", healthy("a", "demo/one:1"), healthy("b", "demo/one:1"))
    (tmp_path / "m.yaml").write_text(HEAD + "- {id: a, image: 'demo/one:1'}\n- {id: b, image: 'demo/one:2'}\n")
    done = merge(tmp_path, "part")
    assert done.returncode == 10 and "without a verdict: b\n" in done.stdout, done.stdout
    assert "not in the manifest: b with the image demo/one:1" in done.stdout
    again = replay(tmp_path, "part")
    assert again.returncode == 10 and "1 healthy, 1 infra" in again.stdout, again.stdout
    assert "part holds no verdict on it, but one on demo/one:1" in again.stdout


def test_journals_of_older_versions_name_no_run(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    lines = [healthy("a", "demo/one:1").as_dict(), healthy("b", "demo/one:1").as_dict()]
    (tmp_path / "part/journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (tmp_path / "m.yaml").write_text(HEAD + "- {id: a, image: 'demo/one:1'}\n- {id: b, image: 'demo/one:1'}\n")
    assert merge(tmp_path, "part").returncode == 0
    # What was put together can be put together with more.
    (tmp_path / "all/verdicts.json").unlink()
    (tmp_path / "all").rename(tmp_path / "one")
    assert merge(tmp_path, "one").returncode == 0


def test_an_existing_cache_is_kept(parts: Path) -> None:
    """What the target folder knows of other tasks, and what it knows better."""
    (parts / "all").mkdir()
    lines = [json.loads(line) for line in (parts / "a/cache.jsonl").read_text().splitlines()]
    lines += [json.loads(line) for line in (parts / "b/cache.jsonl").read_text().splitlines()]
    other, newer = json.loads(json.dumps(lines[0])), lines[1]
    other["record"]["task_id"] = "of-another-run"
    newer["record"]["started"] = "2999-01-01T00:00:00.000+00:00"
    (parts / "all/cache.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (other, newer)))
    merge(parts, "a", "b", "c")
    known = {record.task_id: record for record in VerdictCache(parts / "all/cache.jsonl", None).all()}
    assert "of-another-run" in known and len(known) > len(lines) - 1
    assert known[newer["record"]["task_id"]].started == newer["record"]["started"]
