"""Shards on machines of their own, and `taskgate merge`, which proves that together they are the whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    (folder / "m.yaml").write_text(HEAD + rows + "- {id: gone, image: 'taskgate-test/gone:1'}\n")
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
        (["all", "a"], "--out: all is a part"),
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
        assert "12 healthy" in done.stdout and "taskgate-test/gone:1" in (parts / "r.html").read_text()
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
