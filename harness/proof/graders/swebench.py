"""SWE-bench: the gold patch, then the row's own evaluation script, graded by the publisher's log parsers.

Needs the extra `swebench`. Source: the package `swebench` 5.0.2, harness/run_evaluation.py and harness/grading.py.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.task import Task

PATCH, SCRIPT = "/tmp/patch.diff", "/eval.sh"  # noqa: S108 # in the container, where the publisher's harness has it
WORKDIR = "/testbed"
# As run_evaluation.py tries them, with a clean tree before each further one.
APPLY = f"""
git apply --verbose {PATCH} && exit
for command in 'git apply --verbose --3way' 'git apply --verbose --reject' 'patch --batch --forward --fuzz=5 -p1 -i'; do
  git checkout -- . ; git clean -fd
  $command {PATCH} && exit
done
git apply --check --reverse {PATCH}
"""
NEEDED = ("instance_id", "image", "repo", "version", "FAIL_TO_PASS", "PASS_TO_PASS", "log_parser", "eval_type")
APPLY_SECONDS = 600.0
REASON_TESTS = 3


def plan(task: Task) -> Plan:
    """Raises UsageError where the row lacks what the harness needs, or swebench is not installed."""
    proof = task.proof
    assert proof is not None and proof.source is not None and proof.row is not None
    row = _rows(proof.source).get(proof.row)
    if row is None:
        raise UsageError(f"has no row {proof.row}", file=proof.source)
    row = {"image": task.image, **row}
    missing = [name for name in (*NEEDED, "eval_script", "patch") if name not in row]
    if missing:
        raise UsageError(f"the row {proof.row} has no {', '.join(missing)}; data sets for swebench 5 have them",
                         file=proof.source)  # fmt: skip
    spec = _spec(row)
    return Plan(
        solve=[
            Put(PATCH, str(row["patch"]).encode()),
            Command(("/bin/bash", "-c", APPLY), APPLY_SECONDS, required=True, workdir=WORKDIR),
        ],
        prepare=[Put(SCRIPT, str(spec.eval_script).encode(), 0o755)],
        test=Command(("/bin/bash", SCRIPT), proof.timeout, workdir=WORKDIR),
        read=lambda traces: _read(spec, row, traces),
    )


def _spec(row: dict[str, Any]) -> Any:
    try:
        from swebench.harness.utils import make_test_spec
    except ImportError as error:
        raise UsageError("proofs of SWE-bench need its package: pip install 'taskgate[swebench]'") from error
    return make_test_spec(row)


def _read(spec: Any, row: dict[str, Any], traces: Traces) -> Outcome:
    """As the publisher grades; what it calls a failure of the infrastructure is incomplete."""
    from swebench.harness.grading import get_eval_report

    prediction = {"instance_id": row["instance_id"], "model_name_or_path": "taskgate", "model_patch": row["patch"]}
    report = get_eval_report(spec, prediction, str(traces.log), include_tests_status=True)[row["instance_id"]]
    if report.get("infra_failure"):
        return Outcome(RunStatus.INCOMPLETE, f"the harness calls it infrastructure: {report['infra_failure_reason']}")
    tests: dict[str, str] = {}
    for kind in report.get("tests_status", {}).values():
        tests |= dict.fromkeys(kind["success"], "passed") | dict.fromkeys(kind["failure"], "failed")
    if report["resolved"]:
        return Outcome(RunStatus.PASSED, None, tests)
    if not report["patch_successfully_applied"]:
        return Outcome(RunStatus.FAILED, f"the log has no test results (status {traces.exit_status})", tests)
    bad = sorted(name for name, outcome in tests.items() if outcome == "failed")
    return Outcome(RunStatus.FAILED, f"{len(bad)} tests failed: {', '.join(bad[:REASON_TESTS])}", tests)


@lru_cache(4)
def _rows(source: str) -> dict[str, dict[str, Any]]:
    """The rows of a data set, or of a task repository, by instance id. Raises UsageError."""
    path = Path(source)
    if path.is_dir():
        return _task_repository(path)
    if path.suffix == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
        if path.suffix in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in data.splitlines() if line.strip()]
        else:
            document = json.loads(data)
            rows = list(document.values()) if isinstance(document, dict) else document
        return {str(row["instance_id"]): row for row in rows}
    except OSError as error:
        raise UsageError(f"can't be read: {error.strerror}", file=source) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"is not a list of rows with an instance_id: {error}", file=source) from error


def _parquet(path: Path) -> dict[str, dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'taskgate[parquet]'", file=str(path)) from error
    try:
        return {str(row["instance_id"]): row for row in parquet.read_table(path).to_pylist()}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"is not Parquet with an instance_id: {error}", file=str(path)) from error


def _task_repository(path: Path) -> dict[str, dict[str, Any]]:
    """One directory per instance, see swebench.task.repo."""
    try:
        from swebench.task.repo import load_task, task_dirs
    except ImportError as error:
        raise UsageError("proofs of SWE-bench need its package: pip install 'taskgate[swebench]'") from error
    try:
        return {folder.name: load_task(folder) for folder in task_dirs(path)}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"is not a task repository: {error}", file=str(path)) from error
