"""How a record crosses from the worker that judged to the controller: as a user property of the report."""

from __future__ import annotations

import json

import pytest

from taskgate.harness.gate.verdict import Record

NAME = "taskgate"


def stamp(record: Record) -> tuple[str, str]:
    """The user property, plain ASCII, so that it survives xdist and JUnit."""
    evidence = record.evidence.as_dict() if record.evidence else None
    text = json.dumps({"record": record.as_dict(), "evidence": evidence, "fingerprint": record.fingerprint})
    return NAME, text


def read(report: pytest.TestReport) -> Record | None:
    """The record that `report` carries, if any."""
    for name, value in report.user_properties:
        if name == NAME and isinstance(value, str):
            told = json.loads(value)
            return Record.from_dict(told["record"], told["evidence"], told["fingerprint"])
    return None
