"""A run on the terminal: a line for each task, its progress, and in the end its outcome and what it saved."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from taskgate.harness.base import escape
from taskgate.harness.base.lists import and_more, shortened
from taskgate.harness.runner.live import LiveAgent, LiveView
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runner.states import SKIPPED, TaskResult, TaskState

STYLES = {
    TaskState.DONE: "green",
    TaskState.FAILED: "red",
    TaskState.INFRA: "magenta",
    TaskState.INTERRUPTED: "yellow",
}
WIDTH = max(len(state.label) for state in SKIPPED)
ORDER = (TaskState.DONE, *SKIPPED, TaskState.FAILED, TaskState.INFRA, TaskState.INTERRUPTED)
GROUPS, IDS = 10, 5
# Of a terminal, for the bar and a few lines.
MARGIN_ROWS = 8


def agent_table(agents: Sequence[LiveAgent], rows: int) -> Table:
    """The agents at work, as many as there are rows for."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("agent at work", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("elapsed", justify="right", no_wrap=True)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("last line", ratio=5, no_wrap=True, overflow="ellipsis", style="dim")
    for agent in agents[:rows]:
        calls = "" if agent.calls is None else f"{agent.calls:,}"
        table.add_row(
            Text(escape.line(agent.task_id, 100)), _time(agent.seconds), calls, Text(escape.line(agent.line, 200))
        )
    if more := and_more(len(agents), rows):
        table.add_row(more)
    return table


class _Console(Console):
    """Goes on in silence where nobody reads any more: a run of hours is not to end with a pager."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class RunReport:
    """`total` tasks are expected. On a terminal, the agents at work (`view`) and a bar stand below the lines."""

    def __init__(self, total: int, spec: RunSpec, view: LiveView | None = None) -> None:
        self._total, self._spec = total, spec
        self._console = _Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._results: list[TaskResult] = []
        self._progress = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._view = view
        self._live = Live(
            console=self._console, get_renderable=self._picture, refresh_per_second=2, redirect_stderr=False,
            transient=True,
        )  # fmt: skip
        self._bar = self._progress.add_task("", total=total, counts="")

    def __enter__(self) -> RunReport:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def _picture(self) -> RenderableType:
        """What stands below the lines."""
        agents = self._view.agents() if self._view else []
        rows = max(1, self._console.size.height - MARGIN_ROWS)
        return Group(agent_table(agents, rows), self._progress) if agents else self._progress

    def add(self, result: TaskResult) -> None:
        """A task has ended."""
        self._results.append(result)
        counts = "  ".join(f"{state.label} {number}" for state, number in self._counts().items())
        self._progress.update(self._bar, advance=1, counts=counts)
        line = Text(result.state.label.ljust(WIDTH), style=STYLES.get(result.state, "dim"))
        line.append(f"  {escape.line(result.task.id, 120)}", style="default")
        if result.reason:
            line.append(f"  {escape.line(result.reason)}", style="dim")
        self._console.print(line)

    def say(self, text: str) -> None:
        self._console.print(Text(escape.line(text, 1000)))

    def counts(self) -> Counter[TaskState]:
        return Counter(result.state for result in self._results)

    def summary(self, out: str, problems: Sequence[str] = ()) -> None:
        """The run's outcome; `problems` are what went wrong with the run itself."""
        left = self._total - len(self._results)
        parts = [f"{number} {state.label}" for state, number in self._counts().items()]
        self._console.print()
        self._print(f"{self._total} tasks: {', '.join([*parts, *([f'{left} not begun'] if left else [])])}", bold=True)
        for state in (TaskState.FAILED, TaskState.INFRA):
            self._groups(state)
        used = sum(result.seconds for result in self._results)
        calls = [result.calls for result in self._results if result.calls is not None]
        self._print(f"used:    {_time(used)} of agents' time" + (f", {sum(calls):,} calls" if calls else ""))
        self._print(f"saved:   {self._saved()}")
        self._print(f"results: {escape.line(out, 1000)}")
        for problem in problems:
            self._print(f"warning: {escape.line(problem, 1000)}", style="yellow")

    def _saved(self) -> str:
        skipped = [result for result in self._results if result.state in SKIPPED]
        if not skipped:
            return "nothing: no task was skipped"
        done = sum(result.state is TaskState.SKIPPED_DONE for result in skipped)
        budgets = [self._spec.budget_of(result.task) for result in skipped]
        seconds = sum(budget.seconds or 0 for budget in budgets)
        calls = sum(budget.calls or 0 for budget in budgets)
        words = f"{len(skipped)} tasks skipped ({done} done before, {len(skipped) - done} not worth it), up to"
        return f"{words} {_time(seconds)} of agents' time" + (f" and {calls:,} calls" if calls else "")

    def _groups(self, state: TaskState) -> None:
        """The reasons of the tasks in a state, the most common first."""
        groups: dict[str, list[str]] = {}
        for result in self._results:
            if result.state is state:
                groups.setdefault(result.reason or "", []).append(result.task.id)
        if groups:
            self._print(f"{state.label}:", style=STYLES[state])
        rows = sorted(groups.items(), key=lambda row: -len(row[1]))
        for reason, ids in rows[:GROUPS]:
            self._print(f"  {len(ids):>5}  {escape.line(reason)}")
            self._print(f"         {shortened(ids, IDS, lambda task_id: escape.line(task_id, 60))}")
        if more := and_more(len(rows), GROUPS, "reasons"):
            self._print(f"         … {more}")

    def _counts(self) -> dict[TaskState, int]:
        counts = self.counts()
        return {state: counts[state] for state in ORDER if counts[state]}

    def _print(self, text: str, **style: Any) -> None:
        self._console.print(Text(text, style="bold" if style.get("bold") else style.get("style", "")))


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
