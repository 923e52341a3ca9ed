"""taskgate status: how far a run is"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import status
from taskgate.harness.runner.live import LiveView
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.states import SUMMARY_ORDER
from taskgate.reports.run_terminal import MARGIN_ROWS, agent_table

WATCH_SECONDS = 2.0


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="every task of a run: done, skipped, failed, infra, incompatible, never started"
    )
    parser.add_argument("out", metavar="OUT", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="a JSON document for each task")
    parser.add_argument("--watch", action="store_true", help="show the agents at work until the run has ended")
    parser.add_argument("--docker-host", metavar="URL", help="results are compared with this engine's images")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    engine = None
    with contextlib.suppress(InfraError):
        engine = Engine(given.docker_host)
    results = Results(Path(given.out))
    if given.watch:
        _watch(results)
    tasks = status.read(results, engine=engine)
    counts = Counter(task.state.summary for task in tasks)
    for task in tasks:
        if given.json:
            print(json.dumps(task.as_dict()))
        else:
            line = f"{task.state.summary:<14} {escape.line(task.task_id, 200)}  {escape.line(task.reason or '')}"
            print(line.rstrip())
    if not given.json:
        print(_totals(counts))
        if engine is None:
            print("no engine answers: results were not compared with the images of today")
    if counts["infra"] or counts["incompatible"] or counts["never started"]:
        return NO_VERDICT
    return BROKEN if counts["failed"] else OK


def _watch(results: Results) -> None:
    """Show how the run goes on until it has ended. Raises UsageError, InfraError."""
    view, console = LiveView(results), Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            busy = results.busy()
            counts = Counter(task.state.summary for task in status.read(results))
            agents = view.agents()
            table = agent_table(agents, max(1, console.size.height - MARGIN_ROWS))
            live.update(Group(table, Text(_totals(counts))) if agents else Text(_totals(counts)), refresh=True)
            if not busy:
                return
            time.sleep(WATCH_SECONDS)


def _totals(counts: Counter[str]) -> str:
    return f"{counts.total()} tasks: {', '.join(f'{counts[summary]} {summary}' for summary in SUMMARY_ORDER)}"
