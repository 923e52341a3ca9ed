"""How a run's folder stands: every task of its manifest in one of five states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from taskgate.harness import files, manifest
from taskgate.harness.engine import Engine
from taskgate.harness.errors import UsageError
from taskgate.harness.runner import completion
from taskgate.harness.runner.results import JOURNAL, MANIFEST, Results
from taskgate.harness.runner.runner import DONE, FAILED, INFRA, INTERRUPTED, NOT_WORTH_IT, SKIP_DONE
from taskgate.harness.task import Task


class State(StrEnum):
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    INFRA = "infra"
    NEVER = "never started"


@dataclass(frozen=True, slots=True)
class Standing:
    """A task's state, and why."""

    task_id: str
    state: State
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "state": str(self.state), "reason": self.reason}


def read(results: Results, *, engine: Engine | None = None) -> list[Standing]:
    """All tasks of the run's manifest, in its order. With an engine, results are held against its images of today.

    Raises UsageError where the folder is no run's, InfraError.
    """
    path = results.out / MANIFEST
    if not files.is_file(path):
        raise UsageError(f"{results.out} is no folder of a run: there is no {MANIFEST} in it", field="OUT")
    last: dict[str, dict[str, Any]] = {}
    for line in files.read_lines(results.out / JOURNAL):
        if isinstance(line.get("task_id"), str):
            last[line["task_id"]] = line
    return [_standing(results, task, last.get(task.id), engine) for task in manifest.load(path)]


def _standing(results: Results, task: Task, line: dict[str, Any] | None, engine: Engine | None) -> Standing:
    told, said = results.result(task.id), line or {}
    if told and (str(told.get("started")) > str(said.get("when", "")) or said.get("what") == INTERRUPTED):
        # A kill came between a result and its line, or an earlier result still stands.
        said = {"what": told.get("status"), "reason": told.get("reason"), "config": told.get("config")}
    what, reason = said.get("what"), str(said.get("reason") or "") or None
    if what in NOT_WORTH_IT:
        return Standing(task.id, State.SKIPPED, f"{what}: {reason}")
    if what in (DONE, SKIP_DONE):
        digest = engine.digest(task.image) if engine else None
        try:
            completion.check(results, task.id, digest=digest, config=str(said.get("config")))
            return Standing(task.id, State.DONE)
        except completion.Unfinished as error:
            return Standing(task.id, State.FAILED, f"its results won't do any more: {error}")
    states = {FAILED: State.FAILED, INFRA: State.INFRA}
    return Standing(task.id, states.get(str(what), State.NEVER), reason)
