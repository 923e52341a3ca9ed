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
from taskgate.harness.runner.status import State


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="every task of a run: done, skipped, failed, infra, incompatible, never started"
    )
    parser.add_argument("out", metavar="OUT", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="a document a line")
    parser.add_argument("--docker-host", metavar="URL", help="results are held against this engine's images")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    engine = None
    with contextlib.suppress(InfraError):
        engine = Engine(given.docker_host)
    found = status.read(Results(Path(given.out)), engine=engine)
    counts = Counter(one.state for one in found)
    for one in found:
        if given.json:
            print(json.dumps(one.as_dict()))
        else:
            print(f"{one.state:<14} {escape.line(one.task_id, 200)}  {escape.line(one.reason or '')}".rstrip())
    if not given.json:
        print(f"{len(found)} tasks: {', '.join(f'{counts[state]} {state}' for state in State)}")
        if engine is None:
            print("no engine answers: results were not held against the images of today")
    if counts[State.INFRA] or counts[State.INCOMPATIBLE] or counts[State.NEVER]:
        return NO_VERDICT
    return BROKEN if counts[State.FAILED] else OK
