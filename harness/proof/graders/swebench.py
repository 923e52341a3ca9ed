"""SWE-bench: the gold patch, then the row's own evaluation script, graded by the publisher's log parsers.

Needs the extra `swebench`. Source: the package `swebench` 5.0.2, harness/run_evaluation.py and harness/grading.py.
"""

from __future__ import annotations

from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import rows
from taskgate.harness.proof.graders.logs import utf8
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.task import Task

PATCH, SCRIPT = "/tmp/patch.diff", "/eval.sh"  # noqa: S108 # in the container, where the publisher's harness has it
WORKDIR = "/testbed"
# The markers are on the standard error stream: one pipe keeps them in order with the tests' output.
MERGED = ("/bin/bash", "-c", f"exec /bin/bash {SCRIPT} 2>&1")
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
    row = {"image": task.image, **rows.row_of(proof.source, proof.row)}
    if lacking := rows.missing(row, (*NEEDED, "eval_script", "patch")):
        problem = f"the row {proof.row} has no {', '.join(lacking)}; data sets for swebench 5 have them"
        raise UsageError(problem, file=proof.source)
    spec = _spec(row)
    return Plan(
        solve=[
            Put(PATCH, str(row["patch"]).encode()),
            Command(("/bin/bash", "-c", APPLY), APPLY_SECONDS, required=True, workdir=WORKDIR),
        ],
        prepare=[Put(SCRIPT, str(spec.eval_script).encode(), 0o755)],
        test=Command(MERGED, proof.timeout, workdir=WORKDIR),
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
    try:
        with utf8(traces.log) as log:
            report = get_eval_report(spec, prediction, str(log), include_tests_status=True)[row["instance_id"]]
    except Exception as error:  # what the log holds is hostile, and the parsers are not ours
        return Outcome(RunStatus.FAILED, f"the publisher's grader failed: {type(error).__name__}: {error}"[:500])
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
