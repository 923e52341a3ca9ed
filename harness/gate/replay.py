"""Repeats verdicts that were reached elsewhere: reports of a run, or of merged runs, without an engine."""

from __future__ import annotations

from pathlib import Path

from taskgate.harness.gate import recorded
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.tasks.task import Task


class Replay:
    """Judges by what an --out folder holds. Raises UsageError for one that holds nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {record.task_id: record for record in recorded.records(folder)}

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record on `task`, marked as known from before; infra where there is none. `following` plays no part."""
        record = self._known.get(task.id)
        if record is None or record.image != task.image:
            other = f", but one on {record.image}" if record else ""
            record = new_record(task, Verdict.INFRA)
            record.reason = f"{self._folder} holds no verdict on it{other}"
            record.hint = "Nothing is known of the image. Judge it: run without --replay."
        record.cached = True
        return record
