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
            data = json.loads(value)
            return Record.from_dict(data["record"], data["evidence"], data["fingerprint"])
    return None


def drop(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let go of it at the teardown: the call's report has it, and there may be a hundred thousand items."""
    item.user_properties.clear()
    # JUnit's file takes the properties of the teardown's report.
    if report.passed and not getattr(item.config.option, "xmlpath", None):
        report.user_properties = [entry for entry in report.user_properties if entry[0] != NAME]
