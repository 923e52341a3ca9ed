"""The controller's side of a run: takes records in, writes every file, sets the exit status. One per run.

Under pytest-xdist only the controller lives to the end, and only what a report carries reaches it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import NO_VERDICT
from taskgate.harness.base.out_files import CACHE, JOURNAL, VERDICTS
from taskgate.harness.base.redaction import masked
from taskgate.harness.engine import reaper
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import population, skip_list_sync
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.plugin import report_property, report_trimming
from taskgate.harness.plugin.case_ids import id_of_case, suite_path
from taskgate.harness.plugin.options import Settings
from taskgate.harness.plugin.workers import Workers
from taskgate.harness.runtime import sources
from taskgate.reports import github, summary, verdicts
from taskgate.reports.html import HtmlReport
from taskgate.reports.journal import Journal
from taskgate.reports.progress import Progress


class Controller:
    def __init__(self, config: pytest.Config, settings: Settings, session: str) -> None:
        self.settings, self.session, self._config = settings, session, config
        self.tally = Tally(manifest_ids=list(settings.tasks))
        self._skip_list = open_skip_list(settings.skip_list)
        # A list that can't be read must stop the run now, not after hours.
        self.skips = self._skip_list.read()
        self._cache = VerdictCache(settings.out / CACHE, settings.max_age)
        self._journal = Journal(settings.out / JOURNAL, session)
        self._progress: Progress | None = None
        self._begun = False
        self._other_failed = False
        self._trouble: list[str] = []
        self._common_failures: list[population.CommonFailure] = []
        self._workers = Workers(config, id_of_case)
        config.pluginmanager.register(self._workers, "taskgate-workers")
        config.pluginmanager.register(
            HtmlReport(
                self.tally,
                rows=settings.report_rows,
                record_of=self._record_of,
                reproduce=self._reproduce,
            ),
            "taskgate-html",
        )

    def _record_of(self, report: pytest.TestReport) -> Record | None:
        return report_property.read(report) or self.tally.records.get(id_of_case(report.nodeid) or "")

    def _reproduce(self, record: Record) -> str:
        """A command that judges this one image again, whatever its id holds."""
        import shlex

        # Not -k: its expressions can't say every id.
        case = f"{suite_path()}::test_image[{record.task_id}]"
        source = [f"--images={masked(self._config.option.images)}"]
        if self._config.option.format:
            source.append(f"--format={self._config.option.format}")
        return shlex.join(["pytest", *source, "--recheck", case])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Clear away what killed runs left; an engine that doesn't answer is told of image by image."""
        if self._config.option.collectonly or self.settings.replay:
            return
        try:
            self._reap(None)
        except UsageError as error:
            raise pytest.UsageError(escape.message(str(error))) from error
        self._make_runtimes()

    def _make_runtimes(self) -> None:
        """Make what the manifest asks to bring in, before any image is looked at: a mistake there is told once."""
        if all(check.published for check in self.settings.checks):
            return
        # An engine that is away is told of image by image.
        with contextlib.suppress(InfraError):
            try:
                sources.prepare(
                    lambda: Engine(next(iter(self.settings.docker_hosts), None)), self.settings.tasks.values()
                )
            except UsageError as error:
                told = escape.message(f"{self._config.option.images}: {error}")
                raise pytest.UsageError(told) from error

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._in_scope([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._in_scope(ids)

    def _in_scope(self, nodeids: list[str]) -> None:
        self.tally.scope.update(task_id for nodeid in nodeids if (task_id := id_of_case(nodeid)) is not None)
        option, stdout = self._config.option, sys.__stdout__
        if self.tally.scope and not self._begun and not (option.collectonly or self.settings.replay):
            self._begun = True
            with self._telling():
                verdicts.begin(self.settings.out / VERDICTS, self.tally, self.session)
        if self._progress or not self.tally.scope or option.verbose or option.collectonly:
            return
        if stdout and stdout.isatty():
            self._progress = Progress(len(self.tally.scope), stdout)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """With a progress line, pytest's own letters for images would only be in its way."""
        if id_of_case(getattr(report, "nodeid", "")) is None:
            return None
        if report.outcome == "rerun":
            return "rerun", "" if self._progress else "R", "RERUN"
        if self._progress is None:
            return None
        if report.when in ("setup", "teardown"):
            category = "error" if report.failed else "skipped" if report.skipped else ""
        else:
            category = report.outcome
        return category, "", ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        self._take(report)
        result = yield
        if id_of_case(report.nodeid) is not None:
            report_trimming.trim(self._config, report)
        return result

    def _take(self, report: pytest.TestReport) -> None:
        task_id = id_of_case(report.nodeid)
        if task_id is None or task_id not in self.settings.tasks:
            self._other_failed = self._other_failed or report.failed
            return
        # Of a case that goes well, all three reports hold the record.
        if str(report.outcome) == "rerun" or (report.passed and report.when != "call"):
            return
        record = report_property.read(report)
        if record is None and report.failed and task_id not in self.tally.records:
            record = new_record(self.settings.tasks[task_id], Verdict.INFRA)
            record.reason = _last_line(report)
            record.hint = "Nothing is known of the image. Run again."
        if record is None or ((known := self.tally.records.get(task_id)) and known.as_dict() == record.as_dict()):
            return
        self.tally.add(record)
        if not self.settings.replay:
            with self._telling():
                self._journal.write(record)
                self._cache.put(record)
        if self._progress:
            self._progress.update(self.tally)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._progress:
            self._progress.finish()
        if self._config.option.collectonly:
            return
        # A run that was refused before it began has seen nothing and must overwrite nothing.
        if not self.tally.scope and not self.tally.records:
            return
        self._common_failures = population.common_failures(self.tally.records.values(), self.settings.tasks, self.skips)
        if not self.settings.replay:
            if not self.settings.cluster:
                self._reap(self.session)
            self._write()
        with self._telling():
            github.write(self.tally)
        session.exitstatus = self._status(int(exitstatus))

    def _write(self) -> None:
        with self._telling():
            verdicts.write(self.settings.out / VERDICTS, self.tally)
        # What is probably not the images' fault is not listed.
        if not self._distrusted:
            with self._telling():
                skip_list_sync.update(self._skip_list, self.tally, self.session, before=self.skips)
        with self._telling():
            self._cache.compact(len(self.settings.tasks))

    @pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_sessionfinish")
    def pytest_sessionfinish_of_others(self, session: pytest.Session) -> Generator[None, object, object]:
        """Other plugins' reports (JUnit, HTML) that can't be written are told as our own files are."""
        try:
            return (yield)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self._trouble.append(f"a report can't be written: {where}{error.strerror or error}")
            session.exitstatus = NO_VERDICT
            return None

    @property
    def _distrusted(self) -> bool:
        """Did nearly all images fail alike, and has nobody said that this is their fault?"""
        return bool(self._common_failures) and not self.settings.trust_common_failures

    def _status(self, status: int) -> int:
        """The gate's exit status; pytest's own for what pytest itself complains of, Ctrl-C among them."""
        stopped = self._config.getvalue("maxfail") or self._workers.none_left
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not (
            stopped and status == pytest.ExitCode.INTERRUPTED
        ):
            return status
        if self._trouble or self.tally.missing or self._distrusted:
            return NO_VERDICT
        counts = self.tally.counts
        too_many = not self.settings.accepts(counts["broken"], counts["broken"] + counts["healthy"])
        return int(pytest.ExitCode.TESTS_FAILED if too_many or self._other_failed else pytest.ExitCode.OK)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._config.option.collectonly or not self.tally.scope:
            return
        agentless = sum(task.agent is None for task in self.settings.tasks.values() if task.id in self.tally.records)
        summary.write(
            terminalreporter,
            self.tally,
            agentless=agentless,
            out=self.settings.out,
            skip_list=self.settings.skip_list,
            html=getattr(self._config.option, "htmlpath", None),
            first=population.banner(self._common_failures, trusted=self.settings.trust_common_failures),
        )
        for text in self._trouble:
            terminalreporter.write_line(f"taskgate: {escape.message(text)}", red=True)

    @contextlib.contextmanager
    def _telling(self) -> Any:
        """Trouble with one file must not cost the others; it is told at the end and fails the gate closed."""
        try:
            yield
        except (UsageError, InfraError) as error:
            if str(error) not in self._trouble:
                self._trouble.append(str(error))

    def _reap(self, session: str | None) -> None:
        hosts: list[str | None] = [*self.settings.docker_hosts]
        for url in hosts or [None]:
            with contextlib.suppress(InfraError):
                engine = Engine(url)
                try:
                    reaper.reap(engine, session)
                finally:
                    engine.close()


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip()[:2000] if lines else "the case ended without a verdict"
