"""How a run's folder stands: every task of its manifest, its state, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import JOURNAL, MANIFEST, RUN
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import completion
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.states import UNFIT, TaskState
from taskgate.harness.tasks import manifest
from taskgate.harness.tasks.task import Task

OTHER_SETTINGS = "its result was made with other settings"


@dataclass(frozen=True, slots=True)
class _LastRun:
    """The run that began last in a folder: its session, and the fingerprint of each task, where they are known."""

    run: str | None = None
    settings: dict[str, Any] | None = None

    def owns(self, task_id: str, line: dict[str, Any]) -> bool:
        """Is this line its own, or one of an earlier run with the same settings? Older folders don't tell."""
        config = line.get("config")
        if self.settings is None or config is None or (self.run and line.get("run") == self.run):
            return True
        return bool(self.settings.get(task_id) == config)


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task's state, and why."""

    task_id: str
    state: TaskState
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "state": self.state.summary, "reason": self.reason}


def read(results: Results, *, engine: Engine | None = None) -> list[TaskStatus]:
    """All tasks of the run's manifest, in its order. With an engine, results are compared with its images of today.

    Raises UsageError where the folder is not a run's, InfraError.
    """
    tasks = manifest_of(results)
    last_run = _last_run(results.out / RUN)
    lines = last_lines(results)
    return [_status(results, task, lines.get(task.id), engine, last_run) for task in tasks]


def manifest_of(results: Results) -> list[Task]:
    """The run's tasks. Raises UsageError where the folder is not a run's."""
    path = results.out / MANIFEST
    if not files.is_file(path):
        raise UsageError(f"{results.out} is not the folder of a run: there is no {MANIFEST} in it", field="OUT")
    return manifest.load(path)


def last_lines(results: Results) -> dict[str, dict[str, Any]]:
    """The journal's last line on each task, by its id. Raises InfraError."""
    last: dict[str, dict[str, Any]] = {}
    for line in files.read_lines(results.out / JOURNAL):
        if isinstance(line.get("task_id"), str):
            last[line["task_id"]] = line
    return last


def state_of(line: dict[str, Any]) -> TaskState | None:
    """A journal line's state; those of version 0.1 have only `what`."""
    try:
        return TaskState(str(line.get("state")))
    except ValueError:
        return TaskState.of_label(line.get("what"))


def _last_run(path: Path) -> _LastRun:
    try:
        document = files.read_document(path)
    except (OSError, ValueError, RecursionError):
        return _LastRun()
    if not isinstance(document, dict) or not isinstance(document.get("settings"), dict):
        return _LastRun()
    return _LastRun(document.get("run"), document["settings"])


def _status(
    results: Results, task: Task, line: dict[str, Any] | None, engine: Engine | None, last_run: _LastRun
) -> TaskStatus:
    line = line or {}
    state, reason, record = state_of(line), str(line.get("reason") or "") or None, results.last(task.id)
    if record and (str(record.get("started")) > str(line.get("when", "")) or state is TaskState.INTERRUPTED):
        # A kill came between a result and its line, or an earlier result still stands.
        line, state, reason = record, _recorded(record), str(record.get("reason") or "") or None
    if not last_run.owns(task.id, line):
        return TaskStatus(task.id, TaskState.NEVER_STARTED, OTHER_SETTINGS)
    if state in UNFIT and state is not TaskState.INCOMPATIBLE:
        return TaskStatus(task.id, state, f"{state.label}: {reason}")
    if state in (TaskState.DONE, TaskState.SKIPPED_DONE):
        image = engine.local(task.image) if engine else None
        try:
            completion.check(results, task.id, digests=image.digests if image else None, config=str(line.get("config")))
            return TaskStatus(task.id, TaskState.DONE)
        except completion.Unfinished as error:
            return TaskStatus(task.id, TaskState.FAILED, f"its result does not count any more: {error}")
    if state is TaskState.INTERRUPTED:
        state = TaskState.NEVER_STARTED
    return TaskStatus(task.id, state or TaskState.NEVER_STARTED, reason)


def _recorded(record: dict[str, Any]) -> TaskState | None:
    try:
        return TaskState(str(record.get("status")))
    except ValueError:
        return None
