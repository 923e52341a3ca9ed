"""The exit status of the gate, and why it is that one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from taskgate.harness.base.exit_codes import NO_VERDICT
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.plugin.options import Settings

# What pytest complains of by itself comes first. Ctrl-C is its own too.
PYTEST = {
    pytest.ExitCode.INTERRUPTED: "interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "internal error",
    pytest.ExitCode.USAGE_ERROR: "usage error",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no image was selected",
}


@dataclass(frozen=True, slots=True)
class Exit:
    """`status` is the process's, `reason` a phrase for people."""

    status: int
    reason: str

    def __str__(self) -> str:
        return f"gate: exit {self.status}: {self.reason}"


@dataclass(slots=True)
class ExitStatus:
    """Decides on the exit status. `other_failed`: a test that is no image's failed. `problems`: files that could not
    be written. `common_failure`: nearly all images fail alike, so that they are hardly at fault."""

    settings: Settings
    tally: Tally
    other_failed: bool = False
    common_failure: bool = False

    def decide(self, pytest_status: int, *, stopped: Callable[[], bool], problems: list[str]) -> Exit:
        """`stopped`: did --maxfail or the loss of all workers end the session? pytest calls that interrupted."""
        ours = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if pytest_status not in ours and not (pytest_status == pytest.ExitCode.INTERRUPTED and stopped()):
            status = pytest.ExitCode(pytest_status) if pytest_status in list(pytest.ExitCode) else None
            return Exit(pytest_status, PYTEST.get(status, "pytest's own") if status else "pytest's own")
        if problems:
            return Exit(NO_VERDICT, problems[0])
        if self.common_failure:
            return Exit(NO_VERDICT, "nearly all images fail alike (see above)")
        if self.settings.tasks and not self.tally.records:
            return Exit(NO_VERDICT, "no image was judged")
        return self._by_verdicts()

    def _by_verdicts(self) -> Exit:
        counts, missing = self.tally.counts, self.tally.missing
        allowed = set[str]()
        if self.settings.allow_incompatible:
            allowed = {record.task_id for record in self.tally.of([Verdict.INCOMPATIBLE])}
        if lacking := missing - allowed:
            return Exit(NO_VERDICT, f"{_tasks(len(lacking))} without a verdict ({self._kinds(lacking)})")
        broken, judged = counts["broken"], counts["broken"] + counts["healthy"]
        sound, unsound = ("solvable", "not solvable") if self.settings.prove else ("healthy", "broken")
        left_out = f", {len(allowed)} incompatible and allowed" if allowed else ""
        if not self.settings.accepts(broken, judged):
            limit = f", {self.settings.max_broken_text} allowed" if self.settings.max_broken_text != "0" else ""
            return Exit(int(pytest.ExitCode.TESTS_FAILED), f"{broken} {unsound}{limit}{left_out}")
        if self.other_failed:
            return Exit(int(pytest.ExitCode.TESTS_FAILED), "a test other than the gate's failed")
        if broken:
            return Exit(0, f"{broken} {unsound}, {self.settings.max_broken_text} allowed{left_out}")
        return Exit(0, f"{_tasks(counts['healthy'])} {sound}{left_out}")

    def _kinds(self, missing: set[str]) -> str:
        """How many of them are infra and so on."""
        parts = [
            (sum(record.task_id in missing for record in self.tally.of([verdict])), name)
            for verdict, name in (
                (Verdict.INFRA, "inconclusive" if self.settings.prove else "infra"),
                (Verdict.INCOMPATIBLE, "incompatible"),
            )
        ]
        parts.append((len(missing) - sum(number for number, _ in parts), "not judged"))
        return ", ".join(f"{number} {kind}" for number, kind in parts if number)


def _tasks(number: int) -> str:
    return f"{number} task{'' if number == 1 else 's'}"
