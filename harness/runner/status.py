"""How a run's folder stands: every task of its manifest in one of six states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import JOURNAL, MANIFEST, RUN
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import completion
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.runner import DONE, FAILED, INFRA, INTERRUPTED, NOT_WORTH_IT, SKIP_DONE, SKIP_INCOMPATIBLE
from taskgate.harness.tasks import manifest
from taskgate.harness.tasks.task import Task


class State(StrEnum):
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    INFRA = "infra"
    INCOMPATIBLE = "incompatible"
    NEVER = "never started"


@dataclass(frozen=True, slots=True)
class _Begun:
    """The run that began last in a folder: what it would do with each task, where it is known (see runner.spec)."""

    run: str | None = None
    settings: dict[str, Any] | None = None

    def owns(self, task_id: str, line: dict[str, Any]) -> bool:
        """Is this line its own, or one of an earlier run with the same settings? Older folders don't tell."""
        config = line.get("config")
        if self.settings is None or config is None or (self.run and line.get("run") == self.run):
            return True
        return bool(self.settings.get(task_id) == config)


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
    begun = _begun(results.out / RUN)
    last: dict[str, dict[str, Any]] = {}
    for line in files.read_lines(results.out / JOURNAL):
        if isinstance(line.get("task_id"), str):
            last[line["task_id"]] = line
    return [_standing(results, task, last.get(task.id), engine, begun) for task in manifest.load(path)]


def _begun(path: Path) -> _Begun:
    try:
        told = files.read_document(path)
    except (OSError, ValueError, RecursionError):
        return _Begun()
    if not isinstance(told, dict) or not isinstance(told.get("settings"), dict):
        return _Begun()
    return _Begun(told.get("run"), told["settings"])


def _standing(
    results: Results, task: Task, line: dict[str, Any] | None, engine: Engine | None, begun: _Begun
) -> Standing:
    told, said = results.result(task.id), line or {}
    if told and (str(told.get("started")) > str(said.get("when", "")) or said.get("what") == INTERRUPTED):
        # A kill came between a result and its line, or an earlier result still stands.
        said = {**told, "what": told.get("status")}
    what, reason = said.get("what"), str(said.get("reason") or "") or None
    if not begun.owns(task.id, said):
        return Standing(task.id, State.NEVER, "what is there was made by a run with other settings")
    if what == SKIP_INCOMPATIBLE:
        return Standing(task.id, State.INCOMPATIBLE, reason)
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
