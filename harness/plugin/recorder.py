"""Takes records in as they arrive, and writes every file of the run. One per run, in the controller."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.out_files import CACHE
from taskgate.harness.gate import skip_list_sync
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import SkipList, open_skip_list
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.plugin import report_property
from taskgate.harness.plugin.case_ids import id_of_case
from taskgate.harness.plugin.options import Settings
from taskgate.reports.report import Report

REASON_CHARACTERS = 2000


class Recorder:
    """`problems`: what could not be written, in the order in which it happened. `skips`: the skip list as the run
    began with it."""

    def __init__(self, settings: Settings, run: str) -> None:
        self._settings, self._run = settings, run
        self.tally = Tally(manifest_ids=list(settings.tasks))
        self.problems: list[str] = []
        self.reports: list[Report] = []
        self._skip_list: SkipList = open_skip_list(settings.skip_list)
        # A list that can't be read must stop the run now, not after hours.
        self.skips: dict[str, Entry] = self._skip_list.read()
        self._cache = VerdictCache(settings.out / CACHE, settings.max_age)

    def record_of(self, report: pytest.TestReport) -> Record | None:
        """The record that a test's report is about."""
        return report_property.read(report) or self.tally.records.get(id_of_case(report.nodeid) or "")

    def begin(self) -> None:
        for report in self.reports:
            with self.noting():
                report.begin(self.tally)

    def take(self, report: pytest.TestReport) -> None:
        """Record the verdict that the report of an image's case carries, once."""
        record = self._verdict(report)
        if record is None:
            return
        known = self.tally.records.get(record.task_id)
        if known and known.as_dict() == record.as_dict():
            return
        self.tally.add(record)
        if not self._settings.replay:
            with self.noting():
                self._cache.put(record)
        for each in self.reports:
            with self.noting():
                each.add(record, self.tally)

    def finish(self, *, keep_skip_list: bool = False) -> None:
        """Write everything. `keep_skip_list`: this run's verdicts must not change the list."""
        for report in self.reports:
            with self.noting():
                report.finish(self.tally)
        if self._settings.replay:
            return
        if not keep_skip_list:
            with self.noting():
                skip_list_sync.update(
                    self._skip_list, self.tally, self._run, before=self.skips, unlisted=self._settings.unlisted
                )
        with self.noting():
            self._cache.compact(len(self._settings.tasks))

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """A problem with one file must not cost the others: it is shown at the end, and the gate fails closed."""
        try:
            yield
        except (UsageError, InfraError) as error:
            self.note(str(error))

    def note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _verdict(self, report: pytest.TestReport) -> Record | None:
        """The record in a report; for a case that failed without one, infra."""
        if str(report.outcome) == "rerun" or (report.passed and report.when != "call"):
            return None
        record = report_property.read(report)
        task_id = id_of_case(report.nodeid) or ""
        if record is None and report.failed and task_id not in self.tally.records:
            record = new_record(self._settings.tasks[task_id], Verdict.INFRA)
            record.reason = _last_line(report)
            record.hint = "Nothing is known of the image. Run again."
        return record


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip()[:REASON_CHARACTERS] if lines else "the case ended without a verdict"
