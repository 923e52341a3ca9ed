"""Terminal-Bench: solution.sh (or .yaml), then run-tests.sh beside tests/ in /tests, read from pytest's summary.

`proof.source` is the task folder. The parser follows a fork's copy of Terminal-Bench's pytest parser; paths, users
and default times are as remembered of 0.2.18, whose source was not at hand: compare them before relying on them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import logs
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.task import Task

ORACLE, TESTS = "/oracle/solution.sh", "/tests"
# Where task.yaml says nothing.
TEST_SECONDS = 60.0
REASON_TESTS = 3
SUMMARY = re.compile(r"=+\s*short test summary info\s*=+", re.IGNORECASE)
# pytest's words, and whether Terminal-Bench takes the test as passed.
OUTCOMES = {
    "PASSED": "passed",
    "XFAIL": "passed",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "XPASS": "failed",
    "ERROR": "error",
}


def plan(task: Task) -> Plan:
    """Raises UsageError where the task's folder lacks a script, or names another parser than pytest's."""
    proof = task.proof
    assert proof is not None
    if proof.source is None:
        raise UsageError("is missing: the task's folder", field=f"{task.id}.proof.source")
    folder = Path(proof.source)
    file = folder / "task.yaml"
    about = yaml_tree.plain_yaml(file)
    about = about if isinstance(about, dict) else {}
    if (parser := about.get("parser_name", "pytest")) != "pytest":
        raise UsageError(f"tests read by the parser {parser!r} can't be proven", file=str(file), field="parser_name")
    script, tests = folder / "run-tests.sh", folder / "tests"
    if not script.is_file():
        raise UsageError("does not exist", file=str(script))
    environment = {"TEST_DIR": TESTS, **task.env}
    # The tests' own shell is root's, whoever the agent is.
    user = None if about.get("run_tests_in_same_shell") else "root"
    return Plan(
        solve=[
            Put(ORACLE, _solution(folder), 0o755),
            # A solution that ends with an error is tested all the same, as Terminal-Bench does.
            Command(("bash", ORACLE), proof.timeout, environment=environment),
        ],
        prepare=[*([Put(TESTS, tests)] if tests.is_dir() else []), Put(f"{TESTS}/run-tests.sh", script)],
        test=Command(("bash", f"{TESTS}/run-tests.sh"), _seconds(about, file), user=user, environment=environment),
        read=_read,
    )


def _seconds(about: dict[str, Any], file: Path) -> float:
    seconds = about.get("max_test_timeout_sec", TEST_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        raise UsageError("must be a number above 0", file=str(file), field="max_test_timeout_sec")
    return float(seconds)


def _solution(folder: Path) -> bytes:
    script, keys = folder / "solution.sh", folder / "solution.yaml"
    if script.is_file():
        return script.read_bytes()
    if not keys.is_file():
        raise UsageError("has neither solution.sh nor solution.yaml", file=str(folder))
    lines = []
    for number, step in enumerate(yaml_tree.plain_yaml(keys) or []):
        command = step.get("command") if isinstance(step, dict) else None
        if not isinstance(command, str) or not step.get("append_enter", True):
            # Keys for a program that is open in a terminal.
            raise UsageError("is not a command of a shell", file=str(keys), field=f"[{number}].command")
        lines.append(command)
    return ("\n".join(lines) + "\n").encode()


def _read(traces: Traces) -> Outcome:
    """Passed if all tests of pytest's short summary did; without a summary nothing did."""
    tests = outcomes(logs.text(traces.log))
    if tests is None:
        return Outcome(RunStatus.FAILED, f"the log has no summary of pytest (status {traces.exit_status})")
    bad = [name for name, outcome in tests.items() if outcome in ("failed", "error")]
    if bad:
        return Outcome(RunStatus.FAILED, f"{len(bad)} tests failed: {', '.join(bad[:REASON_TESTS])}", tests)
    if not tests:
        return Outcome(RunStatus.FAILED, "no test ran")
    return Outcome(RunStatus.PASSED, None, tests)


def outcomes(text: str) -> dict[str, str] | None:
    """Each test's outcome in what follows the first "short test summary info"; None where there is none."""
    parts = SUMMARY.split(text, maxsplit=1)
    if len(parts) < 2:
        return None
    by_name = {}
    for line in parts[1].splitlines():
        # The message of a failure.
        line = line.rpartition(" - ")[0] or line if line.startswith("FAILED") else line
        word, _, path = line.strip().partition(" ")
        name = path.strip().partition("::")[2] or path.strip()
        if name and (outcome := OUTCOMES.get(word.strip(":"))):
            by_name[name] = outcome
    return by_name
