"""The reports that every run has."""

from __future__ import annotations

from taskgate.harness.base.out_files import JOURNAL, VERDICTS
from taskgate.reports.github import GitHubSummary
from taskgate.reports.html import HtmlReport
from taskgate.reports.journal import Journal
from taskgate.reports.progress import progress
from taskgate.reports.report import Report, RunContext
from taskgate.reports.summary import Summary
from taskgate.reports.verdicts import Verdicts


def reports(run: RunContext) -> list[Report]:
    """In the order in which they are written. A replay judges nothing and leaves the files of the run alone."""
    shown: list[Report] = [GitHubSummary(), HtmlReport(run), Summary(run), *progress(run)]
    if run.replay:
        return shown
    return [Journal(run.out / JOURNAL, run.run), Verdicts(run.out / VERDICTS, run.run), *shown]
