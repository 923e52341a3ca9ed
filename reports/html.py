"""The HTML report: pytest-html's page, filled through its hooks. The templates escape everything.

pytest-html leaves ids as they are and drops the reports of crashed workers; both are corrected here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.harness.proof import matrix
from taskgate.harness.proof.proof_record import is_proof
from taskgate.reports import chart, wording
from taskgate.reports.report import Report, RunContext
from taskgate.reports.templating import asset, render, trusted

# The groups of the same reason that the page shows.
GROUPS = 200


class HtmlReport(Report):
    """Fills pytest-html's page."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._crashed: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        report.title = "taskgate pre-flight report"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: list[str], postfix: list[str]) -> None:
        tally = self._run.tally
        tiles = [*wording.counts(tally).items(), ("not judged", len(tally.scope - set(tally.records)))]
        prefix.append(
            render(
                "tiles.html",
                css=trusted(asset("report.css")),
                tiles=tiles,
                notices=self._run.notices,
                hides_passed=self._hides_passed(),
                rows=self._run.rows,
            )
        )
        if groups := self._groups():
            failing = Counter(record.check for record in tally.of([Verdict.BROKEN]) if record.check)
            summary.append(
                render(
                    "failures.html",
                    chart=trusted(chart.bars(dict(failing))),
                    groups=groups[:GROUPS],
                    more=max(0, len(groups) - GROUPS),
                    tiles=tiles,
                    failing=failing.most_common(),
                )
            )
        postfix.append(f"<script>{asset('report.js')}</script>")

    def _groups(self) -> list[tuple[str, str, str, list[str]]]:
        """(verdict, check, reason, ids) of all that is not healthy; within a verdict the most frequent first."""
        return [(verdict, *group) for verdict, group in wording.groups(self._run.tally)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        cells[1:2] = [
            '<th class="sortable" data-column-type="testId">Task and image</th>',
            '<th class="sortable" data-column-type="check">Finding</th>',
        ]
        # The column of links would be empty.
        cells.pop()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        record = self._run.record_of(report)
        cells.pop()
        if record is None:
            cells[1:2] = [f'<td class="col-testId">{escape.html(report.nodeid)}</td>', '<td class="col-check"></td>']
            return
        if report.passed and self._hides_passed():
            del cells[:]
            return
        # pytest-html takes the two cells as one as well as apart.
        cells[1:2] = [render("cells.html", record=record, verdict=wording.name(record))]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        record = self._run.record_of(report)
        if record is None:
            data[:] = [escape.visible(part, keep="\n\t") for part in data]
        elif report.when == "teardown" and report.passed:
            data.clear()
        else:
            data[:] = [self._details(record)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        # pytest-html knows no report of when="???".
        report.when = "call"
        if report.outcome == "failed":
            self._crashed.add(crashitem)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """pytest-html makes a row at teardown, which a crashed worker never reports."""
        result = yield
        if report.nodeid in self._crashed and report.when == "call":
            self._crashed.discard(report.nodeid)
            end = pytest.TestReport(report.nodeid, report.location, {}, "passed", None, "teardown")
            if node := getattr(report, "node", None):
                setattr(end, "node", node)  # noqa: B010 # xdist's own, unknown to pytest's types
            self._run.config.hook.pytest_runtest_logreport(report=end)
        return result

    def _hides_passed(self) -> bool:
        return len(self._run.tally.scope) > self._run.rows

    def _details(self, record: Record) -> str:
        return render(
            "details.html",
            record=record,
            warnings=[finding for finding in record.findings if finding.outcome is Outcome.WARN],
            matrix=matrix.parse(record.evidence.output) if record.evidence and is_proof(record) else None,
            command=self._run.reproduce(record),
        )
