"""Multi-SWE-bench: the image's own scripts, graded by the publisher's report against the results in the row.

Gold runs fix-run.sh with the row's fix patch, nop test-run.sh. Needs the extra `multi-swe-bench`. Source: the package
`multi-swe-bench` 1.1.2, harness/run_evaluation.py, harness/gen_report.py and harness/report.py.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import logs, rows
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.task import Task

NEEDED = ("org", "repo", "number", "fix_patch", "test_patch", "run_result", "test_patch_result", "fix_patch_result")
# The tests of a row that must pass with the fix, by what they did before it.
KINDS = ("p2p_tests", "f2p_tests", "s2p_tests", "n2p_tests")
REASON_TESTS = 3


def plan(task: Task) -> Plan:
    """Raises UsageError where the row lacks what the harness needs, its project is unknown to the harness, or
    multi-swe-bench is not installed."""
    proof = task.proof
    assert proof is not None and proof.source is not None and proof.row is not None
    row = rows.row_of(proof.source, proof.row)
    if lacking := rows.missing(row, NEEDED):
        raise UsageError(f"the row {proof.row} has no {', '.join(lacking)}", file=proof.source)
    dataset, instance = _instance(row, f"{proof.source}: {proof.row}")
    return Plan(
        solve=[Put(instance.dependency().fix_patch_path(), str(row["fix_patch"]).encode())],
        prepare=[],
        test=_command(instance.fix_patch_run(), proof.timeout),
        untouched=_command(instance.test_patch_run(), proof.timeout),
        read=lambda traces: _read(dataset, instance, traces),
    )


def _command(line: str, seconds: float) -> Command:
    """One pipe keeps what the scripts print in order."""
    return Command(("/bin/sh", "-c", f"exec {shlex.join(shlex.split(line))} 2>&1"), seconds)


def _instance(row: dict[str, Any], where: str) -> tuple[Any, Any]:
    try:
        import multi_swe_bench.harness.repos  # noqa: F401 # registers the projects
        from multi_swe_bench.harness.dataset import Dataset
        from multi_swe_bench.harness.image import Config
        from multi_swe_bench.harness.instance import Instance
    except ImportError as error:
        needed = "pip install 'taskgate[multi-swe-bench]'"
        raise UsageError(f"proofs of Multi-SWE-bench need its package: {needed}") from error
    try:
        dataset = Dataset.from_json(json.dumps(row))
        return dataset, Instance.create(dataset, Config(need_clone=False, global_env=None, clear_env=False))
    except Exception as error:  # the publisher's classes raise what they like
        raise UsageError(f"{where} can't be used: {type(error).__name__}: {str(error)[:300]}") from error


def _read(dataset: Any, instance: Any, traces: Traces) -> Outcome:
    """As the publisher grades: a valid report, with each of the row's tests among those that pass."""
    from multi_swe_bench.harness.report import generate_report

    try:
        result = instance.parse_log(logs.text(traces.log))
        report = generate_report(instance, dataset.run_result, dataset.test_patch_result, result)
    except Exception as error:  # what the log holds is hostile, and the parsers are not ours
        problem = f"the publisher's grader failed: {type(error).__name__}: {str(error)[:300]}"
        return Outcome(RunStatus.FAILED, problem)
    tests = (
        dict.fromkeys(sorted(result.passed_tests), "passed")
        | dict.fromkeys(sorted(result.skipped_tests), "skipped")
        | dict.fromkeys(sorted(result.failed_tests), "failed")
    )
    if not report.valid:
        return Outcome(RunStatus.FAILED, _short(report.error_msg), tests)
    missing = [name for kind in KINDS for name in getattr(dataset, kind) if name not in getattr(report, kind)]
    if missing:
        named = ", ".join(sorted(missing)[:REASON_TESTS])
        return Outcome(RunStatus.FAILED, f"{len(missing)} tests did not pass: {named}", tests)
    return Outcome(RunStatus.PASSED, None, tests)


def _short(message: str) -> str:
    """The publisher's message without its summary of the stages."""
    return message.partition(" A brief summary")[0][:500]
