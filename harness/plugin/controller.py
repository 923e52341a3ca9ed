"""The controller's side of a run: ties pytest's hooks to recorder, reports, cleanup and exit status. One per run.

Under pytest-xdist only the controller lives to the end, and only what a report carries reaches it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Generator
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import NO_VERDICT
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import population
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.plugin import report_trimming, writable
from taskgate.harness.plugin.case_ids import case_argument, id_of_case
from taskgate.harness.plugin.exit_status import Exit, ExitStatus
from taskgate.harness.plugin.options import Settings
from taskgate.harness.plugin.reaper import Reaper
from taskgate.harness.plugin.recorder import Recorder
from taskgate.harness.plugin.workers import Workers
from taskgate.harness.runtime import sources
from taskgate.reports.report import RunContext


class Controller:
    """`session` is the run's id."""

    def __init__(self, config: pytest.Config, settings: Settings, session: str) -> None:
        self.settings, self.session, self._config = settings, session, config
        self.recorder = Recorder(settings, session)
        self._exit = ExitStatus(settings, self.recorder.tally)
        self._reaper = Reaper(settings.docker_hosts)
        self._workers = Workers(config, id_of_case)
        self._shown: Exit | None = None
        self._notices: list[str] = []
        self._begun = False
        self._workers_started = 0
        config.pluginmanager.register(self._workers, "taskgate-workers")

    @property
    def _dry(self) -> bool:
        """Does this session judge nothing?"""
        return bool(self._config.option.collectonly)

    def next_worker(self) -> int:
        """Number the workers from 0, replacements for dead ones included."""
        self._workers_started += 1
        return self._workers_started - 1

    def check_writable(self) -> None:
        """See that the results can be written before anything is judged. Raises UsageError."""
        option = self._config.option
        if self._dry:
            return
        writable.check(
            {} if self.settings.replay else {"--out": self.settings.out},
            {"--html": getattr(option, "htmlpath", None), "--junitxml": getattr(option, "xmlpath", None)},
        )
        if not self.settings.replay and (problem := writable.skip_list_problem(self.settings.skip_list)):
            self.recorder.note(problem)

    def add_reports(self) -> None:
        """Ask all plugins for reports. Each is a pytest plugin itself."""
        for batch in self._config.hook.pytest_taskgate_reports(run=self._context()):
            for report in batch:
                self.recorder.reports.append(report)
                self._config.pluginmanager.register(report)

    def _context(self) -> RunContext:
        settings = self.settings
        return RunContext(
            config=self._config,
            tally=self.recorder.tally,
            run=self.session,
            out=settings.out,
            replay=settings.replay,
            skip_list=settings.skip_list,
            rows=settings.report_rows,
            agentless=frozenset(task.id for task in settings.tasks.values() if task.agent is None),
            checks=self._config.option.checks,
            notices=self._notices,
            task_id=id_of_case,
            record_of=self.recorder.record_of,
            reproduce=self._reproduce,
        )

    def _reproduce(self, record: Record) -> str:
        """A command that judges this one image again, whatever its id holds."""
        # Not -k: its expressions can't express every id.
        case = case_argument(record.task_id)
        source = [f"--images={redacted(self._config.option.images)}"]
        if self._config.option.format:
            source.append(f"--format={self._config.option.format}")
        if self.settings.prove:
            source.append(f"--prove={self.settings.prove}")
        return shlex.join(["pytest", *source, "--recheck", case])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Clean up after killed runs, and make the runtimes."""
        if self._dry or self.settings.replay:
            return
        try:
            self._reaper.reap_all()
        except UsageError as error:
            raise pytest.UsageError(escape.message(str(error))) from error
        self._make_runtimes()

    def _make_runtimes(self) -> None:
        """Make the runtimes of the manifest before any image is judged, so that a mistake there is reported once."""
        if all(check.published for check in self.settings.checks):
            return
        # An engine that is away is reported with each image.
        with contextlib.suppress(InfraError):
            try:
                sources.prepare(
                    lambda: Engine(next(iter(self.settings.docker_hosts), None)), self.settings.tasks.values()
                )
            except UsageError as error:
                problem = escape.message(f"{self._config.option.images}: {error}")
                raise pytest.UsageError(problem) from error

    def pytest_report_header(self) -> list[str]:
        return [f"taskgate: {escape.message(problem)}" for problem in self.recorder.problems]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._in_scope([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._in_scope(ids)

    def _in_scope(self, nodeids: list[str]) -> None:
        scope = self.recorder.tally.scope
        scope.update(task_id for nodeid in nodeids if (task_id := id_of_case(nodeid)) is not None)
        if scope and not self._begun and not self._dry:
            self._begun = True
            self.recorder.begin()

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """What became of an image whose worker died is not decided yet: another one has it."""
        if report.outcome == "rerun" and id_of_case(getattr(report, "nodeid", "")) is not None:
            return "rerun", "R", "RERUN"
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        ours = id_of_case(report.nodeid) in self.settings.tasks
        if ours:
            self.recorder.take(report)
        elif report.failed:
            self._exit.other_failed = True
        result = yield
        if ours:
            report_trimming.trim(self._config, report)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._dry:
            return
        tally = self.recorder.tally
        # A run that was refused before it began has seen nothing and must overwrite nothing.
        if tally.scope or tally.records:
            self._find_common_failures()
            self.recorder.finish(keep_skip_list=self._exit.common_failure)
        self._decide(session, exitstatus)

    def _find_common_failures(self) -> None:
        """What fails alike in nearly all images is shown first, and is not held against them unless asked for."""
        failures = population.common_failures(
            self.recorder.tally.records.values(), self.settings.tasks, self.recorder.skips
        )
        trusted = self.settings.trust_common_failures
        self._notices += population.banner(failures, trusted=trusted)
        self._exit.common_failure = bool(failures) and not trusted

    def _decide(self, session: pytest.Session, exitstatus: int) -> None:
        decided = self._exit.decide(int(exitstatus), stopped=self._stopped, problems=self.recorder.problems)
        self._shown, session.exitstatus = decided, decided.status

    def _stopped(self) -> bool:
        return bool(self._config.getvalue("maxfail") or self._workers.none_left)

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_sessionfinish")
    def pytest_sessionfinish_around_all(self, session: pytest.Session) -> Generator[None, object, object]:
        """The last line of all is the exit status. Whatever is left on the engine goes once everything is written."""
        result = yield
        if not self._dry and not self.settings.replay and not self.settings.cluster and self._begun:
            records = self.recorder.tally.records.values()
            judged = any(record.verdict is not Verdict.INFRA for record in records)
            self._reaper.reap_session(self.session, judged=judged)
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal and self._shown and session.exitstatus != pytest.ExitCode.USAGE_ERROR:
            terminal.write_line(escape.line(str(self._shown), 1000))
        return result

    @pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_sessionfinish")
    def pytest_sessionfinish_of_others(self, session: pytest.Session) -> Generator[None, object, object]:
        """Reports of other plugins (JUnit, HTML) that can't be written are noted as our own are."""
        try:
            return (yield)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self.recorder.note(f"a report can't be written: {where}{error.strerror or error}")
            self._shown = Exit(NO_VERDICT, self.recorder.problems[-1])
            session.exitstatus = NO_VERDICT
            return None

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for text in self.recorder.problems:
            terminalreporter.write_line(f"taskgate: {escape.message(text)}", red=True)
