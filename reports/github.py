"""The summary of a GitHub Actions job, appended to the file that $GITHUB_STEP_SUMMARY names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from taskgate.harness.base import escape, files
from taskgate.harness.base.lists import and_more, shortened
from taskgate.harness.gate.tally import Tally
from taskgate.reports import wording
from taskgate.reports.report import Report

ROWS, IDS = 100, 10


class GitHubSummary(Report):
    """Written once, when the run is over."""

    def finish(self, tally: Tally) -> None:
        write(tally)


def write(tally: Tally) -> None:
    """Append the gate's summary. Raises InfraError."""
    append(lambda: markdown(tally))


def append(text: Callable[[], str]) -> None:
    """Append a Markdown text; does nothing outside of GitHub Actions. Raises InfraError."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(text())
    except OSError as error:
        raise files.trouble(Path(name), error) from error


def markdown(tally: Tally) -> str:
    """The tally as GitHub's Markdown; at most a few hundred kilobytes."""
    counts = wording.counts(tally)
    lines = ["## taskgate", "", "| " + " | ".join(counts) + " | not judged |", "|" + " ---: |" * (len(counts) + 1)]
    cells = [str(number) for number in counts.values()]
    lines += ["| " + " | ".join([*cells, str(len(tally.scope - set(tally.records)))]) + " |", ""]
    all_groups = wording.groups(tally)
    for verdict in dict.fromkeys(verdict for verdict, _ in all_groups):
        groups = [group for name, group in all_groups if name == verdict]
        lines += [f"### {verdict}", "", "| images | check | reason | tasks |", "| ---: | --- | --- | --- |"]
        for check, reason, ids in groups[:ROWS]:
            named = shortened(ids, IDS, lambda task_id: escape.markdown(task_id, 80))
            lines.append(f"| {len(ids)} | {escape.markdown(check)} | {escape.markdown(reason, 300)} | {named} |")
        if more := and_more(len(groups), ROWS, "reasons"):
            lines.append(f"| | | … {more} | |")
        lines.append("")
    return "\n".join(lines) + "\n"
