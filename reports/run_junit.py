"""The JUnit report of a run: one case for each task."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from taskgate.harness.base import escape
from taskgate.harness.runner.run_results import RunRow

TEXT_CHARS = 20_000


def render(rows: Sequence[RunRow], *, name: str) -> bytes:
    """An XML document. failed is a failure, infra an error; what no agent was put on is skipped."""
    counts = {kind: sum(_kind(row) == kind for row in rows) for kind in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(rows)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        time=f"{sum(row.seconds for row in rows):.3f}",
    )
    for row in rows:
        case = ElementTree.SubElement(
            suite, "testcase", classname="taskgate.run", name=_clean(row.task_id), time=f"{row.seconds:.3f}"
        )
        values = {"state": row.state, "calls": row.calls, "cost": row.cost, "engine": row.engine}
        properties = ElementTree.SubElement(case, "properties")
        for key, value in values.items():
            if value is not None:
                ElementTree.SubElement(properties, "property", name=key, value=_clean(str(value)))
        if kind := _kind(row):
            message = _clean(row.reason or row.state)
            ElementTree.SubElement(case, kind, message=message[:500], type=row.state).text = message
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    document: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document


def _kind(row: RunRow) -> str | None:
    if row.state == "done":
        return None
    return {"failed": "failure", "infra": "error"}.get(row.state, "skipped")


def _clean(text: str) -> str:
    """XML has no way to write most control characters."""
    return escape.visible(text, keep="\n\t")[:TEXT_CHARS]
