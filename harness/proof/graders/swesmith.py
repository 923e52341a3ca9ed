"""SWE-smith: the reverse of the row's patch, which made the bug, then the profile's test command and log parser.

A task's branch ends with a commit that removes the tests; the one before has them. Needs the extra `swesmith`, which
can't be installed beside `swebench`. Source: the package `swesmith` 0.0.9, harness/utils.py, harness/eval.py and
harness/grading.py.
"""

from __future__ import annotations

import shlex
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.graders import logs, rows
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.task import Task

PATCH, SCRIPT = "/tmp/patch.diff", "/eval.sh"  # noqa: S108 # in the container, where the publisher's harness has it
WORKDIR = "/testbed"
# As harness/utils.py tries them.
APPLY = f"""
for command in 'git apply --verbose' 'git apply --verbose --reject' 'patch --batch --fuzz=5 -p1 -i'; do
  $command --reverse {PATCH} && exit
done
exit 1
"""
SCRIPT_TEXT = """#!/bin/bash
set -uxo pipefail
cd {workdir}
: '>>>>> Start Test Output'
{test}
: '>>>>> End Test Output'
"""
NEEDED = ("instance_id", "patch", "FAIL_TO_PASS", "PASS_TO_PASS")
SETUP_SECONDS = 600.0
REASON_TESTS = 3


def plan(task: Task) -> Plan:
    """Raises UsageError where the row lacks what the harness needs, its repository has no profile, or swesmith is not
    installed."""
    proof = task.proof
    assert proof is not None and proof.source is not None and proof.row is not None
    row = rows.row_of(proof.source, proof.row)
    if lacking := rows.missing(row, NEEDED):
        raise UsageError(f"the row {proof.row} has no {', '.join(lacking)}", file=proof.source)
    test, files = _profile(row, f"{proof.source}: {proof.row}")
    restore = "git checkout HEAD~1" + (f" && git checkout -- {shlex.join(files)}" if files else "")
    script = SCRIPT_TEXT.format(workdir=WORKDIR, test=test)
    return Plan(
        solve=[
            Put(PATCH, str(row["patch"]).encode()),
            Command(("/bin/bash", "-c", APPLY), SETUP_SECONDS, required=True, workdir=WORKDIR),
        ],
        prepare=[
            Command(("/bin/bash", "-c", restore), SETUP_SECONDS, required=True, workdir=WORKDIR),
            Put(SCRIPT, script.encode(), 0o755),
        ],
        # The markers are on the standard error stream: one pipe keeps them in order with the tests' output.
        test=Command(("/bin/bash", "-c", f"exec /bin/bash {SCRIPT} 2>&1"), proof.timeout, workdir=WORKDIR),
        read=lambda traces: _read(row, traces),
    )


def _profile(row: dict[str, Any], where: str) -> tuple[str, list[str]]:
    """The test command, and the test files that no solution may change."""
    try:
        from swesmith.profiles import registry
    except ImportError as error:
        needed = "pip install 'taskgate[swesmith]', in an environment without taskgate[swebench]"
        raise UsageError(f"proofs of SWE-smith need its package: {needed}") from error
    try:
        profile = registry.get_from_inst(row)
        command, _ = profile.get_test_cmd(row)
        fail_to_pass, pass_to_pass = profile.get_test_files(row)
        return str(command), [*map(str, fail_to_pass), *map(str, pass_to_pass)]
    except Exception as error:  # the publisher's classes raise what they like
        raise UsageError(f"{where} can't be used: {type(error).__name__}: {str(error)[:300]}") from error


def _read(row: dict[str, Any], traces: Traces) -> Outcome:
    """As the publisher grades."""
    from swesmith.harness.grading import get_eval_report

    try:
        with logs.utf8(traces.log) as log:
            report = get_eval_report({"model_patch": row["patch"]}, row, str(log))
    except Exception as error:  # what the log holds is hostile, and the parsers are not ours
        problem = f"the publisher's grader failed: {type(error).__name__}: {str(error)[:300]}"
        return Outcome(RunStatus.FAILED, problem)
    if "tests_status" not in report:
        return Outcome(RunStatus.FAILED, f"the log has no test results (status {traces.exit_status})")
    tests: dict[str, str] = {}
    for kind in report["tests_status"].values():
        tests |= dict.fromkeys(kind["success"], "passed") | dict.fromkeys(kind["failure"], "failed")
    if report["resolved"]:
        return Outcome(RunStatus.PASSED, None, tests)
    bad = sorted(name for name, outcome in tests.items() if outcome == "failed")
    return Outcome(RunStatus.FAILED, f"{len(bad)} tests failed: {', '.join(bad[:REASON_TESTS])}", tests)
