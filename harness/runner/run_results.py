"""What reports show of a run's folder: a row for each task, with what its agent used."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from taskgate.harness.base.out_files import TRAJECTORY
from taskgate.harness.runner import status
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.status import TaskStatus

# Where agents write what their calls cost: mini-swe-agent and SWE-agent (`info.model_stats.instance_cost`), OpenHands
# (`metrics.accumulated_cost`), and the usual names of others.
COST_PATHS = (
    ("info", "model_stats", "instance_cost"),
    ("model_stats", "instance_cost"),
    ("metrics", "accumulated_cost"),
    ("info", "cost"),
    ("total_cost",),
    ("cost",),
)
# Of a larger trajectory only the ends are searched.
WHOLE_BYTES, END_BYTES = 4 << 20, 64 << 10
COST = re.compile(rb'"(?:instance_cost|accumulated_cost|total_cost)"\s*:\s*([0-9.eE+-]{1,30})')


@dataclass(frozen=True, slots=True)
class RunRow:
    """A task: `state` as `taskgate status` has it; `seconds` and `calls` of its last attempt, `cost` in the currency of
    its trajectory; `started` is ISO 8601."""

    task_id: str
    state: str
    reason: str | None = None
    seconds: float = 0.0
    calls: int | None = None
    cost: float | None = None
    engine: str | None = None
    started: str | None = None


def rows(results: Results, tasks: Iterable[TaskStatus] | None = None) -> list[RunRow]:
    """A row for each task of the run, in the manifest's order. Raises UsageError, InfraError."""
    return [_row(results, task) for task in (status.read(results) if tasks is None else tasks)]


def _row(results: Results, task: TaskStatus) -> RunRow:
    record = results.last(task.task_id) or {}
    seconds, calls = record.get("seconds"), record.get("calls")
    return RunRow(
        task.task_id,
        task.state.summary,
        task.reason,
        float(seconds) if isinstance(seconds, int | float) else 0.0,
        calls if isinstance(calls, int) else None,
        cost_of(results, task.task_id),
        record.get("engine") if isinstance(record.get("engine"), str) else None,
        record.get("started") if isinstance(record.get("started"), str) else None,
    )


def cost_of(results: Results, task_id: str) -> float | None:
    """What the task's trajectory says that it cost; None where it says nothing."""
    path = results.folder(task_id) / TRAJECTORY
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                return _from_document(json.loads(file.read()))
            data = file.read(END_BYTES)
            file.seek(size - END_BYTES)
            costs = COST.findall(data + file.read(END_BYTES))
            return _number(float(costs[-1])) if costs else None
    except (OSError, ValueError, RecursionError):
        return None


def _from_document(document: Any) -> float | None:
    for path in COST_PATHS:
        value = document
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if (number := _number(value)) is not None:
            return number
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)
