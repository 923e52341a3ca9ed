"""The summary on the terminal: what was found, grouped by reason, and where everything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.redaction import masked
from taskgate.harness.gate.tally import Group, Tally
from taskgate.harness.gate.verdict import Verdict

GROUPS, IDS = 20, 5


def write(
    terminal: pytest.TerminalReporter,
    tally: Tally,
    *,
    agentless: int,
    out: Path,
    skip_list: str,
    html: str | None,
    first: list[str] | None = None,
) -> None:
    """Write it. `agentless`: tasks without an agent, whose agent_start was therefore skipped. `first`: lines that a
    reader must see before anything else."""
    terminal.section("taskgate", sep="=", bold=True)
    for line in first or ():
        terminal.write_line(escape.line(line, 1000), red=True, bold=True)
    counts = tally.counts
    cached = sum(record.cached for record in tally.records.values())
    parts = [f"{number} {verdict}" for verdict, number in counts.items() if number or verdict == "healthy"]
    not_judged = len(tally.scope - set(tally.records))
    if not_judged:
        parts.append(f"{not_judged} not judged")
    said = f"{len(tally.scope)} images: {', '.join(parts)}"
    terminal.write_line(said + (f" ({cached} known from before)" if cached else ""), bold=True)
    _groups(terminal, "broken", tally.grouped(Verdict.BROKEN), red=True)
    _groups(terminal, "infra (nothing is known of these images)", tally.grouped(Verdict.INFRA), purple=True)
    _groups(terminal, "incompatible with this host", tally.grouped(Verdict.INCOMPATIBLE), yellow=True)
    _groups(terminal, "warnings", tally.warnings(), yellow=True)
    if agentless:
        terminal.write_line(f"{agentless} without an agent in the manifest: agent_start was skipped")
    terminal.write_line(f"verdicts:  {escape.line(str(out / 'verdicts.json'), 1000)}")
    terminal.write_line(f"skip list: {escape.line(masked(skip_list), 1000)}")
    if html:
        terminal.write_line(f"report:    {escape.line(html, 1000)}")


def _groups(terminal: pytest.TerminalReporter, title: str, groups: list[Group], **colour: bool) -> None:
    if not groups:
        return
    terminal.write_line(f"{title}:", **colour)
    for check, reason, ids in groups[:GROUPS]:
        named = ", ".join(escape.line(task_id, 60) for task_id in ids[:IDS])
        more = f" and {len(ids) - IDS} more" if len(ids) > IDS else ""
        head = f"{check}: " if check else ""
        terminal.write_line(f"  {len(ids):>5}  {escape.line(head + reason)}")
        terminal.write_line(f"         {named}{more}")
    if len(groups) > GROUPS:
        terminal.write_line(f"         … and {len(groups) - GROUPS} more reasons")
