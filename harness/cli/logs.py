"""taskgate logs: what a task's agent printed"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import OK
from taskgate.harness.base.out_files import LOG
from taskgate.harness.runner import live
from taskgate.harness.runner.results import Results

CHUNK_BYTES = 64 << 10
PAUSE_SECONDS = 0.3


def add(commands: Any) -> None:
    parser = commands.add_parser("logs", help="what a task's agent printed, also while it runs")
    parser.add_argument("out", metavar="OUT", help="the run's folder")
    parser.add_argument("task", metavar="TASK", help="the task's id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the agent has ended")
    parser.add_argument("--attempt", metavar="N", type=int, help="of attempts/N, not of the last one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    results = Results(Path(given.out))
    path = _log(results, given.task, given.attempt)
    if path is None:
        raise UsageError(f"{given.out} holds no log of {given.task!r}", field="TASK")
    with path.open("rb") as file:
        for line in _lines(file, path if given.follow else None):
            sys.stdout.write(escape.visible(line.decode("utf-8", "replace"), keep="\n\t"))
            sys.stdout.flush()
    return OK


def _log(results: Results, task_id: str, attempt: int | None) -> Path | None:
    """Of an attempt under way, else of the one that was started last."""
    if attempt is not None:
        candidates = [results.folder(task_id) / "attempts" / str(attempt)]
    else:
        candidates = [*live.folders_of(results, task_id), *results.attempts(task_id)]
    return next((folder / LOG for folder in candidates if (folder / LOG).is_file()), None)


def _lines(file: IO[bytes], followed: Path | None) -> Iterator[bytes]:
    """The file's lines; with `followed`, those that come until it is moved to its task's place or removed."""
    rest = b""
    while True:
        # Looked at first: what was written before the end is read after it.
        over = followed is None or not followed.exists() or followed.parent.parent.name != ".running"
        while data := file.read(CHUNK_BYTES):
            *whole, rest = (rest + data).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if over:
            break
        time.sleep(PAUSE_SECONDS)
    if rest:
        yield rest + b"\n"
