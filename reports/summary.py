"""The summary on the terminal: verdicts grouped by reason, and where the files are."""

from __future__ import annotations

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.lists import and_more, shortened
from taskgate.harness.base.redaction import redacted
from taskgate.harness.gate.tally import Group, Tally
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.proof.decision import ProofVerdict
from taskgate.reports import wording
from taskgate.reports.report import Report, RunContext

GROUPS, IDS = 20, 5


class Summary(Report):
    """Printed where pytest prints its own summaries."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._run.config.option.collectonly or not self._run.tally.scope:
            return
        terminalreporter.section("taskgate", sep="=", bold=True)
        for line in self._run.notices:
            terminalreporter.write_line(escape.line(line, 1000), red=True, bold=True)
        terminalreporter.write_line(headline(self._run.tally, self._run.checks), bold=True)
        # Where pytest shows each failure, the hints are there.
        hints = self._run.config.option.tbstyle == "no"
        _verdicts(terminalreporter, self._run.tally, hints)
        agentless = 0 if wording.proving(self._run.tally) else len(self._run.agentless & self._run.tally.records.keys())
        if agentless:
            terminalreporter.write_line(f"{agentless} without an agent in the manifest: agent_start was skipped")
        self._files(terminalreporter)

    def _files(self, terminal: pytest.TerminalReporter) -> None:
        run = self._run
        if run.replay:
            terminal.write_line(f"replay of: {escape.line(str(run.replay), 1000)} (nothing was judged)")
        else:
            terminal.write_line(f"verdicts:  {escape.line(str(run.out / 'verdicts.json'), 1000)}")
            terminal.write_line(f"skip list: {escape.line(redacted(run.skip_list), 1000)}")
        if html := getattr(run.config.option, "htmlpath", None):
            terminal.write_line(f"report:    {escape.line(html, 1000)}")


def headline(tally: Tally, checks: str | None = None) -> str:
    """`5 tasks on 3 images: 3 healthy, 2 broken`. `checks`: the only ones that ran, as --checks named them."""
    counts = dict(wording.counts(tally))
    sound = next(iter(counts))
    cached = sum(record.cached for record in tally.records.values())
    parts = []
    if checks is not None:
        parts.append(f"{counts.pop(sound)} passed {escape.line(checks)} (not judged otherwise)")
    parts += [f"{number} {verdict}" for verdict, number in counts.items() if number or verdict == sound]
    if not_judged := len(tally.scope - set(tally.records)):
        parts.append(f"{not_judged} not judged")
    text = f"{_subject(tally)}: {', '.join(parts)}"
    return text + (f" ({cached} known from before)" if cached else "")


def _subject(tally: Tally) -> str:
    """`3 images`; `5 tasks on 3 images` if some share one."""
    tasks = len(tally.scope)
    images = len({record.image for record in tally.records.values()}) + len(tally.scope - set(tally.records))
    counted = f"{images} image{'' if images == 1 else 's'}"
    return counted if images >= tasks else f"{tasks} tasks on {counted}"


def _verdicts(terminal: pytest.TerminalReporter, tally: Tally, hints: bool) -> None:
    if wording.proving(tally):
        _proofs(terminal, tally, hints)
        return
    shown = {
        Verdict.BROKEN: ("broken", {"red": True}),
        Verdict.INFRA: ("infra (nothing is known of these images)", {"purple": True}),
        Verdict.INCOMPATIBLE: ("incompatible with this host", {"yellow": True}),
    }
    for verdict, (title, colour) in shown.items():
        _groups(terminal, title, tally.grouped(verdict), tally if hints else None, **colour)
    _groups(terminal, "warnings", tally.warnings(), None, yellow=True)


def _proofs(terminal: pytest.TerminalReporter, tally: Tally, hints: bool) -> None:
    all_groups = wording.groups(tally)
    for verdict in dict.fromkeys(verdict for verdict, _ in all_groups):
        unknown = verdict == ProofVerdict.INCONCLUSIVE
        title = f"{verdict} (nothing is known of these tasks)" if unknown else verdict
        groups = [group for name, group in all_groups if name == verdict]
        _groups(terminal, title, groups, tally if hints else None, red=not unknown)


def _groups(
    terminal: pytest.TerminalReporter, title: str, groups: list[Group], tally: Tally | None, **colour: bool
) -> None:
    """`tally`: where the hints are, if they are to be shown."""
    if not groups:
        return
    terminal.write_line(f"{title}:", **colour)
    for check, reason, ids in groups[:GROUPS]:
        head = f"{check}: " if check else ""
        terminal.write_line(f"  {len(ids):>5}  {escape.line(head + reason)}")
        if tally and (hint := tally.records[ids[0]].hint):
            terminal.write_line(f"         fix: {escape.line(hint)}")
        terminal.write_line(f"         {shortened(ids, IDS, lambda task_id: escape.line(task_id, 60))}")
    if more := and_more(len(groups), GROUPS, "reasons"):
        terminal.write_line(f"         … {more}")
