"""The HTML report: what pytest-html can't know, put in through its hooks. Everything is escaped here.

pytest-html leaves ids as they are and drops the reports of crashed workers; both are mended here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from importlib import resources
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.reports import chart
from taskgate.reports.report import Report, RunContext


class HtmlReport(Report):
    """Fills pytest-html's page."""

    def __init__(self, run: RunContext) -> None:
        self._tally, self._rows, self._config = run.tally, run.rows, run.config
        self._record_of, self._reproduce = run.record_of, run.reproduce
        self._crashed: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        report.title = "taskgate pre-flight report"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: list[str], postfix: list[str]) -> None:
        failing = Counter(record.check for record in self._tally.of([Verdict.BROKEN]) if record.check)
        tiles = [*self._tally.counts.items(), ("not judged", len(self._tally.scope - set(self._tally.records)))]
        prefix.append(f"<style>{_asset('report.css')}</style><style id='tg-rule'></style>")
        prefix.append(
            '<div class="tg-tiles">'
            + "".join(f'<div class="tg-tile {name}"><b>{number}</b>{name}</div>' for name, number in tiles)
            + "</div>"
        )
        if self._hides_passed():
            prefix.append(f"<p>Only failures have a row: there are more than {self._rows} images.</p>")
        if failing:
            buttons = "".join(
                f'<button type="button" data-filter="{escape.html(name)}" aria-pressed="false">'
                f"{escape.html(name)} ({number})</button>"
                for name, number in failing.most_common()
            )
            everything = '<button type="button" data-filter="" aria-pressed="true">all</button>'
            summary.append(f"<h3>Failures by check</h3>{chart.bars(dict(failing))}")
            summary.append(f'<div class="tg-filter">{everything}{buttons}</div>')
        postfix.append(f"<script>{_asset('report.js')}</script>")

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
        record = self._record_of(report)
        cells.pop()
        if record is None:
            cells[1:2] = [f'<td class="col-testId">{escape.html(report.nodeid)}</td>', '<td class="col-check"></td>']
            return
        if report.passed and self._hides_passed():
            del cells[:]
            return
        verdict = f'<span class="tg-verdict {record.verdict}">{record.verdict}</span>'
        cached = " (known from before)" if record.cached else ""
        check = escape.html(record.check or "")
        cells[1:2] = [
            f'<td class="col-testId">{escape.html(record.task_id)}<small>{escape.html(record.image)}</small></td>',
            f'<td class="col-check" data-check="{check}">{verdict}{cached}'
            f"{': ' + check if check else ''}<br>{escape.html(record.reason or '')}</td>",
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        record = self._record_of(report)
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
            self._config.hook.pytest_runtest_logreport(report=end)
        return result

    def _hides_passed(self) -> bool:
        return len(self._tally.scope) > self._rows

    def _details(self, record: Record) -> str:
        rows: list[tuple[str, str]] = []
        if record.reason:
            rows.append(("Reason", f"<p>{escape.html(record.reason)}</p>"))
        if record.hint:
            rows.append(("How to mend it", f"<p>{escape.html(record.hint)}</p>"))
        if seen := record.evidence:
            rows.append((f"Command (status: {escape.html(str(seen.status))})", _pre(seen.command)))
            rows.append(("Output", _pre(seen.output or "(none)")))
        warned = [f for f in record.findings if f.outcome is Outcome.WARN]
        if warned:
            items = "".join(f"<li>{escape.html(f.check)}: {escape.html(f.reason or '')}</li>" for f in warned)
            rows.append(("Warnings", f"<ul>{items}</ul>"))
        rows.append(("Image", _pre(f"{record.image}\n{record.digest or 'digest unknown'}")))
        rows.append(("Judge it again", _pre(self._reproduce(record))))
        told = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
        return f'<dl class="tg-details">{told}</dl>'


def _pre(text: str) -> str:
    return f"<pre>{escape.html(text)}</pre>"


def _asset(name: str) -> str:
    return resources.files("taskgate.reports").joinpath(name).read_text("utf-8")
