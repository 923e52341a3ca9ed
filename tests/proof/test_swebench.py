"""SWE-bench: what a hostile or broken log gives, and rows that can't be proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import swebench
from taskgate.harness.proof.plan import Outcome, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.proof_spec import Proof
from taskgate.harness.tasks.task import Task

ROW = {
    "instance_id": "one",
    "repo": "a/b",
    "version": "1",
    "patch": "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
    "FAIL_TO_PASS": ["t.py::test_a"],
    "PASS_TO_PASS": ["t.py::test_b"],
    "log_parser": "parse_log_pytest_v2",
    "eval_type": "pass_and_fail",
    "eval_script": ": '>>>>> Start Test Output'\npytest\n: '>>>>> End Test Output'\n",
}
GOOD = b"+ : '>>>>> Start Test Output'\nPASSED t.py::test_a\nPASSED t.py::test_b\n+ : '>>>>> End Test Output'\n"


def read(tmp_path: Path, log: bytes) -> Outcome:
    pytest.importorskip("swebench")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "tests.log").write_bytes(log)
    proof = Proof(harness="swebench", source=str(tmp_path / "rows.jsonl"), row="one")
    plan = swebench.plan(Task(id="one", image="x:1", proof=proof))
    return plan.read(Traces(0, tmp_path / "tests.log", lambda path, limit: None))


def test_all_pass(tmp_path: Path) -> None:
    outcome = read(tmp_path, GOOD)
    assert outcome == Outcome(RunStatus.PASSED, None, {"t.py::test_a": "passed", "t.py::test_b": "passed"})


def test_a_log_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace(b"PASSED t.py::test_b", b"\xff\xfe\nPASSED t.py::test_b")).status == "passed"


@pytest.mark.parametrize("log", [b"", b"\x00" * 1000, b"+ : '>>>>> Start Test Output'\n", GOOD[::-1]])
def test_a_broken_log_is_no_success(tmp_path: Path, log: bytes) -> None:
    assert read(tmp_path, log).status in ("failed", "incomplete")


def test_a_row_of_an_older_data_set_is_refused(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if name not in ("eval_script", "log_parser")}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    proof = Proof(harness="swebench", source=str(tmp_path / "rows.json"), row="one")
    with pytest.raises(UsageError, match="has no log_parser, eval_script; data sets for swebench 5 have them"):
        swebench.plan(Task(id="one", image="x:1", proof=proof))
    missing = Proof(harness="swebench", source=str(tmp_path / "rows.json"), row="two")
    with pytest.raises(UsageError, match="has no row two"):
        swebench.plan(Task(id="one", image="x:1", proof=missing))
