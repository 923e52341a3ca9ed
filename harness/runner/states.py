"""The states of a task in a run, and what a run reports of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from taskgate.harness.tasks.task import Task


class TaskState(StrEnum):
    """A skipped task costs no agent's time; only `DONE` is a new result."""

    DONE = "done"
    FAILED = "failed"
    INFRA = "infra"
    INTERRUPTED = "interrupted"
    SKIPPED_DONE = "skipped-done"
    SKIPPED_BROKEN = "skipped-broken"
    SKIPPED_INVALID = "skipped-invalid"
    SKIPPED_UNPROVEN = "skipped-unproven"
    INCOMPATIBLE = "incompatible"
    NEVER_STARTED = "never-started"

    @property
    def label(self) -> str:
        """The text for terminals and reports; the journal's `what`."""
        return LABELS.get(self, str(self))

    @property
    def summary(self) -> str:
        """The word of `taskgate status`: done, skipped, failed, infra, incompatible or never started."""
        return SUMMARIES.get(self, str(self))

    @classmethod
    def of_label(cls, label: object) -> TaskState | None:
        """The state that a journal's `what` stands for; None for anything else."""
        return next((state for state in cls if state.label == label), None)


LABELS = {
    TaskState.SKIPPED_DONE: "SKIP (done)",
    TaskState.SKIPPED_BROKEN: "SKIP (broken)",
    TaskState.SKIPPED_INVALID: "SKIP (validation failed)",
    TaskState.SKIPPED_UNPROVEN: "SKIP (not proven)",
    TaskState.INCOMPATIBLE: "SKIP (incompatible)",
    TaskState.NEVER_STARTED: "never started",
}
SUMMARIES = {
    TaskState.SKIPPED_DONE: "done",
    TaskState.SKIPPED_BROKEN: "skipped",
    TaskState.SKIPPED_INVALID: "skipped",
    TaskState.SKIPPED_UNPROVEN: "skipped",
    TaskState.INTERRUPTED: "never started",
    TaskState.NEVER_STARTED: "never started",
}
# The words of `taskgate status`, in its order.
SUMMARY_ORDER = ("done", "skipped", "failed", "infra", "incompatible", "never started")
# No agent is put on a task in one of these states.
UNFIT = (
    TaskState.SKIPPED_BROKEN,
    TaskState.SKIPPED_INVALID,
    TaskState.SKIPPED_UNPROVEN,
    TaskState.INCOMPATIBLE,
)
SKIPPED = (TaskState.SKIPPED_DONE, *UNFIT)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of a task in this run, and why.

    `seconds` and `calls` are what its agent used; `config` is the fingerprint of what reached the agent (see
    `RunSpec.fingerprint`); `engine` is the URL of the engine that it ran on; `started` is ISO 8601 in UTC.
    """

    task: Task
    state: TaskState
    reason: str | None = None
    seconds: float = 0.0
    calls: int | None = None
    config: str | None = None
    engine: str | None = None
    started: str | None = None
