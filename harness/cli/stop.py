"""taskgate stop: let a run come to its end"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.exit_codes import OK
from taskgate.harness.runner import control
from taskgate.harness.runner.results import Results


def add(commands: Any) -> None:
    parser = commands.add_parser("stop", help="a run starts nothing new; agents at work go on to their end")
    parser.add_argument("out", metavar="OUT", help="the run's folder")
    parser.add_argument("--now", action="store_true", help="end the agents at work as well, as Ctrl-C does")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    results = Results(Path(given.out))
    control.ask(results, now=given.now)
    ending = "its agents are ended" if given.now else "agents at work go on to their end"
    print(f"{escape.line(given.out, 1000)}: nothing new is started, {ending}")
    return OK
