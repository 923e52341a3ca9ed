"""The gate's progress on a terminal: how many images are judged, the verdicts so far, and the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from taskgate.harness.base import escape
from taskgate.harness.base.lists import shortened
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record
from taskgate.reports import wording
from taskgate.reports.report import Report, RunContext

EVERY_SECONDS = 0.1
# Without a terminal: a line so often, and whenever another such share of the images is judged.
LINE_SECONDS, SHARE = 30.0, 0.05
NAMED = 3


def progress(run: RunContext) -> list[Report]:
    """A progress line if stdout is a terminal and pytest was not asked for a line per test."""
    option, stdout = run.config.option, sys.__stdout__
    if option.verbose > 0 or option.collectonly or not stdout or not stdout.isatty():
        return []
    return [Progress(stdout, run.task_id)]


class Progress(Report):
    """Redraws one line on `stream`, a terminal. `task_id` gives the id of a node id's task."""

    def __init__(self, stream: TextIO, task_id: Callable[[str], str | None]) -> None:
        self._task_id = task_id
        console = Console(file=stream, highlight=False)
        # No thread draws it: pytest captures what is written while a test runs.
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._begun = self._drawn = 0.0

    def begin(self, tally: Tally) -> None:
        self._begun = time.monotonic()
        self._task = self._bar.add_task("", total=len(tally.scope))
        self._bar.start()

    def add(self, record: Record, tally: Tally) -> None:
        now, done = time.monotonic(), len(tally.records)
        if now - self._drawn < EVERY_SECONDS and done < len(tally.scope):
            return
        self._drawn = now
        text = describe(tally, now - self._begun)
        self._bar.update(self._task, total=len(tally.scope), completed=done, description=text, refresh=True)

    def finish(self, tally: Tally) -> None:
        self._bar.stop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        return _without_letter(report, self._task_id)


class LineProgress(Report):
    """Writes a line to `stream`, no terminal, every 30 seconds and every 5 % of the images."""

    def __init__(self, stream: TextIO, task_id: Callable[[str], str | None]) -> None:
        self._stream, self._task_id = stream, task_id
        self._running: dict[str, None] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._begun, self._written, self._done = time.monotonic(), 0.0, 0

    def begin(self, tally: Tally) -> None:
        self._begun = self._written = time.monotonic()
        self._thread = threading.Thread(target=self._tick, args=(tally,), daemon=True)
        self._thread.start()

    def add(self, record: Record, tally: Tally) -> None:
        self._running.pop(record.task_id, None)
        done, total = len(tally.records), len(tally.scope)
        if done == total or (done - self._done) / total >= SHARE:
            self._write(tally)

    def finish(self, tally: Tally) -> None:
        self._over.set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if task_id := self._task_id(nodeid):
            self._running[task_id] = None

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        return _without_letter(report, self._task_id)

    def _tick(self, tally: Tally) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self._written >= LINE_SECONDS:
                self._write(tally)

    def _write(self, tally: Tally) -> None:
        with self._lock:
            self._written, self._done = time.monotonic(), len(tally.records)
            running = list(self._running)
            named = shortened(running, NAMED, lambda task_id: escape.line(task_id, 60))
            text = describe(tally, self._written - self._begun)
            self._stream.write(f"{text}{f'  now: {named}' if running else ''}\n")
            self._stream.flush()


def _without_letter(report: Any, task_id: Callable[[str], str | None]) -> tuple[str, str, str] | None:
    """pytest's letters for images would only be in the way."""
    if task_id(getattr(report, "nodeid", "")) is None:
        return None
    if report.outcome == "rerun":
        return "rerun", "", "RERUN"
    if report.when in ("setup", "teardown"):
        category = "error" if report.failed else "skipped" if report.skipped else ""
    else:
        category = report.outcome
    return category, "", ""


def describe(tally: Tally, seconds: float) -> str:
    """`[3/9]  healthy 2  broken 1  ETA 00:12`; `seconds` have passed since the first image."""
    done, total = len(tally.records), len(tally.scope)
    # Cached verdicts arrive in an instant and say nothing about the pace.
    judged = sum(not record.cached for record in tally.records.values())
    left = seconds / judged * (total - done) if judged else 0.0
    counts = "  ".join(f"{verdict} {number}" for verdict, number in wording.counts(tally).items() if number)
    return f"[{done}/{total}]  {counts}  ETA {_clock(left)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
