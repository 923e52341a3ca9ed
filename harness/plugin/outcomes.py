"""From a verdict to pytest's outcome, and the text that a person reads of it."""

from __future__ import annotations

import pytest

from taskgate.harness.base import escape
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.proof.proof_record import is_proof

REASON_CHARACTERS = 2000


class NoVerdict(pytest.fail.Exception):  # type: ignore[name-defined, misc] # typed as a value
    """Nothing is known of the image: reported as an error, as a failed set-up is."""

    # As pytest's own: shown without a module.
    __module__ = "builtins"


def conclude(record: Record) -> None:
    """End the running test with the outcome of `record`: passed, failed, skipped or (infra) an error."""
    __tracebackhide__ = True
    if record.verdict is Verdict.BROKEN:
        pytest.fail(describe(record), pytrace=False)
    if record.verdict is Verdict.INFRA:
        raise NoVerdict(describe(record), pytrace=False)
    if record.verdict is Verdict.INCOMPATIBLE:
        pytest.skip(f"incompatible: {escape.line(record.reason or '', REASON_CHARACTERS)}")


def as_error(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Report a missing verdict as an error: to pytest and all its reports, that is a failure outside the call."""
    if call.excinfo and isinstance(call.excinfo.value, NoVerdict):
        report.when = "setup"


def describe(record: Record) -> str:
    """A record in a few lines of text: reason, how to fix it, and the evidence."""
    # A proof's check is its verdict.
    verdict = "" if is_proof(record) else f"{record.verdict}: "
    check = f"{escape.line(record.check)}: " if record.check else ""
    lines = [f"{verdict}{check}{escape.line(record.reason or '', REASON_CHARACTERS)}"]
    if record.hint:
        lines.append(f"fix: {escape.line(record.hint, REASON_CHARACTERS)}")
    if record.evidence:
        lines += [
            f"command: {escape.message(record.evidence.command)}",
            f"status: {escape.line(str(record.evidence.status))}",
            escape.output(record.evidence.output),
        ]
    return "\n".join(lines)
