"""A run on the terminal: a line a task, how far it is, and in the end what it came to and what it saved."""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from taskgate.harness.base import escape
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runner.runner import DONE, FAILED, INFRA, INTERRUPTED, SKIP_DONE, SKIPPED, Ended

STYLES = {DONE: "green", FAILED: "red", INFRA: "magenta", INTERRUPTED: "yellow"}
WIDTH = max(len(what) for what in SKIPPED)
GROUPS, IDS = 10, 5


class _Console(Console):
    """Goes on in silence where nobody reads any more: a run of hours is not to end with a pager."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class RunReport:
    """`total` tasks are expected. With a terminal there is a bar below the lines."""

    def __init__(self, total: int, spec: RunSpec) -> None:
        self._total, self._spec = total, spec
        self._console = _Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._ended: list[Ended] = []
        self._progress = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stderr=False,
        )
        self._bar = self._progress.add_task("", total=total, counts="")

    def __enter__(self) -> RunReport:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def add(self, ended: Ended) -> None:
        """A task has ended."""
        self._ended.append(ended)
        counts = "  ".join(f"{what} {number}" for what, number in self._counts().items())
        self._progress.update(self._bar, advance=1, counts=counts)
        line = Text(ended.what.ljust(WIDTH), style=STYLES.get(ended.what, "dim"))
        line.append(f"  {escape.line(ended.task.id, 120)}", style="default")
        if ended.reason:
            line.append(f"  {escape.line(ended.reason)}", style="dim")
        self._console.print(line)

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def counts(self) -> Counter[str]:
        return Counter(ended.what for ended in self._ended)

    def summary(self, out: str) -> None:
        """What it came to."""
        left = self._total - len(self._ended)
        parts = [f"{number} {what}" for what, number in self._counts().items()]
        self._console.print()
        self._print(f"{self._total} tasks: {', '.join([*parts, *([f'{left} not begun'] if left else [])])}", bold=True)
        for what in (FAILED, INFRA):
            self._groups(what)
        used = sum(ended.seconds for ended in self._ended)
        calls = [ended.calls for ended in self._ended if ended.calls is not None]
        self._print(f"used:    {_time(used)} of agents' time" + (f", {sum(calls):,} calls" if calls else ""))
        self._print(f"saved:   {self._saved()}")
        self._print(f"results: {escape.line(out, 1000)}")

    def _saved(self) -> str:
        skipped = [ended for ended in self._ended if ended.what in SKIPPED]
        if not skipped:
            return "nothing: no task was skipped"
        done = sum(ended.what == SKIP_DONE for ended in skipped)
        budgets = [self._spec.budget_of(ended.task) for ended in skipped]
        seconds = sum(budget.seconds or 0 for budget in budgets)
        calls = sum(budget.calls or 0 for budget in budgets)
        said = f"{len(skipped)} tasks skipped ({done} done before, {len(skipped) - done} not worth it), up to"
        return f"{said} {_time(seconds)} of agents' time" + (f" and {calls:,} calls" if calls else "")

    def _groups(self, what: str) -> None:
        groups: dict[str, list[str]] = {}
        for ended in self._ended:
            if ended.what == what:
                groups.setdefault(ended.reason or "", []).append(ended.task.id)
        if groups:
            self._print(f"{what}:", style=STYLES[what])
        rows = sorted(groups.items(), key=lambda row: -len(row[1]))
        for reason, ids in rows[:GROUPS]:
            named = ", ".join(escape.line(task_id, 60) for task_id in ids[:IDS])
            self._print(f"  {len(ids):>5}  {escape.line(reason)}")
            self._print(f"         {named}{f' and {len(ids) - IDS} more' if len(ids) > IDS else ''}")
        if len(rows) > GROUPS:
            self._print(f"         … and {len(rows) - GROUPS} more reasons")

    def _counts(self) -> dict[str, int]:
        found = self.counts()
        return {what: found[what] for what in (DONE, *SKIPPED, FAILED, INFRA, INTERRUPTED) if found[what]}

    def _print(self, text: str, **style: Any) -> None:
        self._console.print(Text(text, style="bold" if style.get("bold") else style.get("style", "")))


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
