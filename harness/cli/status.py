"""taskgate status: how far a run is"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import status
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.states import SUMMARY_ORDER


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="every task of a run: done, skipped, failed, infra, incompatible, never started"
    )
    parser.add_argument("out", metavar="OUT", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="a JSON document for each task")
    parser.add_argument("--docker-host", metavar="URL", help="results are compared with this engine's images")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    engine = None
    with contextlib.suppress(InfraError):
        engine = Engine(given.docker_host)
    tasks = status.read(Results(Path(given.out)), engine=engine)
    counts = Counter(task.state.summary for task in tasks)
    for task in tasks:
        if given.json:
            print(json.dumps(task.as_dict()))
        else:
            print(
                f"{task.state.summary:<14} {escape.line(task.task_id, 200)}  {escape.line(task.reason or '')}".rstrip()
            )
    if not given.json:
        print(f"{len(tasks)} tasks: {', '.join(f'{counts[summary]} {summary}' for summary in SUMMARY_ORDER)}")
        if engine is None:
            print("no engine answers: results were not compared with the images of today")
    if counts["infra"] or counts["incompatible"] or counts["never started"]:
        return NO_VERDICT
    return BROKEN if counts["failed"] else OK
