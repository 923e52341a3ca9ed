"""Terminal-Bench: what its parser takes from pytest's summary, and what of a task's folder is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import terminal_bench
from taskgate.harness.proof.plan import Command, Put
from taskgate.harness.tasks.proof_spec import Proof
from taskgate.harness.tasks.task import Task

SUMMARY = """
=========================== short test summary info ============================
PASSED ../tests/test_outputs.py::test_file[a::b]
FAILED ../tests/test_outputs.py::test_text - assert 1 - 2
SKIPPED [1] ../tests/test_outputs.py:3: not here
XFAIL ../tests/test_outputs.py::test_known
XPASS ../tests/test_outputs.py::test_surprise
ERROR ../tests/test_other.py
========================= 1 failed, 1 passed in 0.10s =========================
"""


def task(folder: Path) -> Task:
    return Task(id="one", image="x", proof=Proof(harness="terminal-bench", source=str(folder), timeout=30))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.yaml").write_text("instruction: x\nmax_test_timeout_sec: 90.0\n")
    (tmp_path / "run-tests.sh").write_text("true\n")
    (tmp_path / "tests").mkdir()
    return tmp_path


def test_outcomes_of_the_summary() -> None:
    assert terminal_bench.outcomes(SUMMARY) == {
        "test_file[a::b]": "passed",
        # The publisher's parser cuts a message at its last dash.
        "test_text - assert 1": "failed",
        "[1] ../tests/test_outputs.py:3: not here": "skipped",
        "test_known": "passed",
        "test_surprise": "failed",
        "../tests/test_other.py": "error",
    }


def test_no_summary_is_no_outcome() -> None:
    assert terminal_bench.outcomes("1 passed in 0.1s") is None


def test_a_plan(folder: Path) -> None:
    (folder / "solution.sh").write_text("echo done\n")
    plan = terminal_bench.plan(task(folder))
    put, solve = plan.solve
    assert isinstance(put, Put) and put.content == b"echo done\n"
    assert isinstance(solve, Command) and solve.seconds == 30 and solve.user is None
    assert plan.test.seconds == 90 and plan.test.user == "root" and plan.test.environment["TEST_DIR"] == "/tests"


def test_keys_that_are_commands(folder: Path) -> None:
    (folder / "solution.yaml").write_text("- command: cd /app\n  min_timeout_sec: 1\n- command: |-\n    make\n")
    put = terminal_bench.plan(task(folder)).solve[0]
    assert isinstance(put, Put) and put.content == b"cd /app\nmake\n"


def test_keys_for_an_open_program_are_refused(folder: Path) -> None:
    (folder / "solution.yaml").write_text("- command: vim a\n- command: ':wq'\n  append_enter: false\n")
    with pytest.raises(UsageError, match=r"solution\.yaml.*\[1\].command"):
        terminal_bench.plan(task(folder))


@pytest.mark.parametrize(
    ("line", "match"),
    [("parser_name: swebench", "parser 'swebench' can't be proven"), ("max_test_timeout_sec: soon", "above 0")],
)
def test_what_task_yaml_may_not_say(folder: Path, line: str, match: str) -> None:
    (folder / "solution.sh").write_text("true\n")
    (folder / "task.yaml").write_text(f"instruction: x\n{line}\n")
    with pytest.raises(UsageError, match=match):
        terminal_bench.plan(task(folder))


def test_a_folder_without_scripts_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"neither solution\.sh nor solution\.yaml"):
        terminal_bench.plan(task(folder))
    (folder / "run-tests.sh").unlink()
    with pytest.raises(UsageError, match=r"run-tests\.sh"):
        terminal_bench.plan(task(folder))
