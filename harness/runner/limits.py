"""When a run is in vain: nearly everything turns infra."""

from __future__ import annotations

from collections import Counter

from taskgate.harness.base.errors import UsageError
from taskgate.harness.runner.states import SKIPPED, TaskResult, TaskState

DEFAULT = "90%"
# A percentage of fewer tasks than these means nothing.
LEAST_TASKS = 20


class InfraLimit:
    """More than `number` tasks (or, with `percent`, more than that share of those that ended, of 20 at least) may not
    end in infra. Tasks that were skipped do not count."""

    def __init__(self, number: float, *, percent: bool) -> None:
        self._number, self._percent = number, percent
        self._ended = 0
        self._reasons: Counter[str] = Counter()
        self.reached = False

    @classmethod
    def parse(cls, text: str) -> InfraLimit | None:
        """`5`, `50%`, or `off` (None). Raises UsageError."""
        if text == "off":
            return None
        percent = text.endswith("%")
        try:
            number = float(text[:-1]) if percent else int(text)
        except ValueError:
            number = -1
        if not 0 <= number <= (100 if percent else 10**9):
            raise UsageError(f"{text!r} is neither a number, nor a percentage, nor off", field="--max-infra")
        return cls(number, percent=percent)

    def add(self, result: TaskResult) -> bool:
        """A task has ended. Is the limit exceeded by now?"""
        if result.state in SKIPPED or result.state is TaskState.INTERRUPTED:
            return self.reached
        self._ended += 1
        if result.state is TaskState.INFRA:
            self._reasons[result.reason or "no reason is known"] += 1
        infra = self._reasons.total()
        if self._percent:
            exceeded = self._ended >= LEAST_TASKS and infra * 100 > self._number * self._ended
        else:
            exceeded = infra > self._number
        self.reached = self.reached or exceeded
        return self.reached

    def __str__(self) -> str:
        """Why the run was ended."""
        reason, count = self._reasons.most_common(1)[0] if self._reasons else ("no reason is known", 0)
        return (
            f"{self._reasons.total()} of {self._ended} tasks ended in infra: nothing new was started (--max-infra). "
            f"The most common reason ({count} tasks): {reason}"
        )
