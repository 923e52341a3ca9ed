"""A proof as a record of the gate, so that journal, reports, skip list and exit status serve both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taskgate.harness.base.lists import and_more
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.verdict import Evidence, Finding, Outcome, Record, Verdict, finding
from taskgate.harness.proof import matrix
from taskgate.harness.proof.decision import Decision, ProofVerdict, flaky_tests
from taskgate.harness.proof.run import Control, Run, RunStatus
from taskgate.harness.tasks.task import Task

VERDICTS = {
    ProofVerdict.SOLVABLE: Verdict.HEALTHY,
    ProofVerdict.UNSOLVABLE: Verdict.BROKEN,
    ProofVerdict.TRIVIAL: Verdict.BROKEN,
    ProofVerdict.FLAKY: Verdict.BROKEN,
    ProofVerdict.NEEDS_NETWORK: Verdict.BROKEN,
    ProofVerdict.INCONCLUSIVE: Verdict.INFRA,
}
HINTS = {
    ProofVerdict.UNSOLVABLE: "Run the tests by hand with the reference solution in place; fix the image or the tests.",
    ProofVerdict.TRIVIAL: "The tests don't notice that nothing was done: check that the bug is in the image.",
    ProofVerdict.FLAKY: "Fix or leave out the tests whose outcome differs between runs of the same code.",
    ProofVerdict.NEEDS_NETWORK: "Give the task a network, or put what the tests download into the image.",
    ProofVerdict.INCONCLUSIVE: "Nothing is known of the task. Fix what is named above and run again.",
}
OUTCOMES = {RunStatus.PASSED: Outcome.PASS, RunStatus.FAILED: Outcome.FAIL, RunStatus.INCOMPLETE: Outcome.SKIP}
# The name of a run's finding.
RUN = re.compile(rf"(?:{'|'.join(Control)})-\d+")


def record_of(
    task: Task, decision: Decision, runs: Sequence[Run], *, digest: str | None, platform: str | None
) -> Record:
    """`check` is the proof's verdict; a finding for each run, whose outcome is what was to be shown."""
    record = new_record(task, VERDICTS[decision.verdict], digest=digest, platform=platform)
    record.findings = [_finding(run) for run in runs]
    record.seconds = sum(run.seconds for run in runs)
    if decision.verdict is not ProofVerdict.SOLVABLE:
        record.check, record.reason = str(decision.verdict), _reason(decision, runs)
        record.hint = HINTS[decision.verdict]
        record.evidence = _evidence(runs, decision.verdict)
    return record


def _finding(run: Run) -> Finding:
    expected = run.completed and run.passed == run.control.solves
    outcome = Outcome.SKIP if not run.completed else Outcome.PASS if expected else Outcome.FAIL
    reason = f"tests {run.status}" + (f": {run.reason}" if run.reason else "")
    return finding(f"{run.control}-{run.number}", outcome, reason[:2000], run.seconds)


def _reason(decision: Decision, runs: Sequence[Run]) -> str:
    if decision.verdict is not ProofVerdict.FLAKY:
        return decision.reason[:2000]
    tests = flaky_tests(runs)
    shown = [
        f"{test.name} passed {test.passed} of {test.runs} {test.control} runs "
        f"(95 %: {test.interval[0]:.0%} to {test.interval[1]:.0%})"
        for test in tests[:3]
    ]
    more = and_more(len(tests), 3, "tests")
    return "; ".join(filter(None, (decision.reason, *shown, more)))[:2000]


def _evidence(runs: Sequence[Run], verdict: ProofVerdict) -> Evidence | None:
    if not runs:
        return None
    status = next((run.exit_status for run in runs if run.exit_status is not None), None)
    output = matrix.text(runs, trivial=verdict is ProofVerdict.TRIVIAL)
    return Evidence(runs[-1].command[:4000], status if status is not None else "incomplete", output)


def is_proof(record: Record) -> bool:
    """Is this the record of a proof, not of the gate?"""
    if not all(RUN.fullmatch(finding.check) for finding in record.findings):
        return False
    return bool(record.findings) if record.check is None else record.check in VERDICTS


def proof_verdict(record: Record) -> ProofVerdict:
    """The verdict of a proof's record."""
    return ProofVerdict(record.check) if record.check else ProofVerdict.SOLVABLE


def gold_cost(runs: Sequence[Run]) -> tuple[float, int | None]:
    """The slowest gold run's seconds and the largest peak memory of all, of runs that passed; (0, None) if none did."""
    gold = [run for run in runs if run.control is Control.GOLD and run.passed]
    peaks = [run.peak_memory for run in gold if run.peak_memory]
    return max((run.seconds for run in gold), default=0.0), max(peaks, default=None)
