"""The summary of a GitHub Actions job, where $GITHUB_STEP_SUMMARY names its file."""

from __future__ import annotations

import os
from pathlib import Path

from taskgate.harness.base import escape, files
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Verdict

ROWS, IDS = 100, 10


def write(tally: Tally) -> None:
    """Append it; nothing happens where the variable is not set. Raises InfraError."""
    where = os.environ.get("GITHUB_STEP_SUMMARY")
    if not where:
        return
    try:
        with Path(where).open("a", encoding="utf-8") as file:
            file.write(markdown(tally))
    except OSError as error:
        raise files.trouble(Path(where), error) from error


def markdown(tally: Tally) -> str:
    """The tally as GitHub's Markdown; at most a few hundred kilobytes."""
    counts = tally.counts
    lines = ["## taskgate", "", "| " + " | ".join(counts) + " | not judged |", "|" + " ---: |" * (len(counts) + 1)]
    cells = [str(number) for number in counts.values()]
    lines += ["| " + " | ".join([*cells, str(len(tally.scope - set(tally.records)))]) + " |", ""]
    for verdict in (Verdict.BROKEN, Verdict.INFRA, Verdict.INCOMPATIBLE):
        groups = tally.grouped(verdict)
        if not groups:
            continue
        lines += [f"### {verdict}", "", "| images | check | reason | tasks |", "| ---: | --- | --- | --- |"]
        for check, reason, ids in groups[:ROWS]:
            more = f" and {len(ids) - IDS} more" if len(ids) > IDS else ""
            named = ", ".join(escape.markdown(task_id, 80) for task_id in ids[:IDS])
            lines.append(f"| {len(ids)} | {escape.markdown(check)} | {escape.markdown(reason, 300)} | {named}{more} |")
        if len(groups) > ROWS:
            lines.append(f"| | | … and {len(groups) - ROWS} more reasons | |")
        lines.append("")
    return "\n".join(lines) + "\n"
