"""One manifest on many machines: which tasks are whose, without a word between them."""

from __future__ import annotations

import hashlib
import heapq
import math
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.out_files import JOURNAL, VERDICTS
from taskgate.harness.tasks.task import Task


def pick(tasks: dict[str, Task], which: str | None, seconds: dict[str, float] | None = None) -> dict[str, Task]:
    """The tasks of the shard `which` (`I/N`), in the manifest's order; all of them where it is None.

    By a hash of the id, so that a task stays where it is when others come and go. With `seconds`, which says how long
    tasks took before, the longest go first to the shard that has least to do; all shards must be given the same.
    Raises UsageError.
    """
    if which is None:
        return tasks
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", which, re.ASCII)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"{which!r} is not of the form I/N with I from 1 to N", field="--shard")
    mine = _balanced(tasks, count, seconds) if seconds else {name: _hash(name) % count for name in tasks}
    return {name: task for name, task in tasks.items() if mine[name] == index - 1}


def recorded(path: Path) -> dict[str, float]:
    """How long the tasks of a former run took: by its --out folder, its verdicts.json or its journal. Seconds by id.

    Raises UsageError.
    """
    try:
        rows = _rows(path)
        seconds = {str(row["task_id"]): float(row["seconds"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, InfraError) as error:
        raise UsageError(f"has no durations of a run: {error!r}", file=str(path), field="--balance") from error
    known = {name: taken for name, taken in seconds.items() if math.isfinite(taken) and taken >= 0}
    if not known:
        raise UsageError("has no durations of tasks", file=str(path), field="--balance")
    return known


def _rows(path: Path) -> Iterable[Any]:
    """Records as they are written. Of a folder whose last run was stopped, the journal tells more."""
    if files.is_folder(path):
        if files.is_file(document := path / VERDICTS) and (rows := _rows(document)):
            return rows
        path = path / JOURNAL
    if path.suffix == ".jsonl":
        return list(files.read_lines(path))
    rows = files.read_document(path)["tasks"]
    return rows if isinstance(rows, list) else []


def _balanced(tasks: dict[str, Task], count: int, seconds: dict[str, float]) -> dict[str, int]:
    """Longest first, each to the shard with least to do. What nobody has timed counts as one in the middle."""
    usual = statistics.median(seconds.values())
    order = sorted(tasks, key=lambda name: (-seconds.get(name, usual), _hash(name), name))
    shards = [(0.0, number) for number in range(count)]
    mine: dict[str, int] = {}
    for name in order:
        load, number = shards[0]
        mine[name] = number
        heapq.heapreplace(shards, (load + seconds.get(name, usual), number))
    return mine


def _hash(task_id: str) -> int:
    return int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:8], "big")
