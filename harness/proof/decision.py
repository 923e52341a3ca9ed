"""From runs to a verdict: solvable, unsolvable, trivial, flaky or inconclusive. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from taskgate.harness.proof.run import Control, Run


class ProofVerdict(StrEnum):
    """Only completed runs count towards the first four.

    `needs_network`: the tests pass with a network and fail without one (with `--offline`).
    """

    SOLVABLE = "solvable"
    UNSOLVABLE = "unsolvable"
    TRIVIAL = "trivial"
    FLAKY = "flaky"
    INCONCLUSIVE = "inconclusive"
    NEEDS_NETWORK = "needs network"


@dataclass(frozen=True, slots=True)
class Decision:
    """`final`: no further run can change the verdict."""

    verdict: ProofVerdict
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class FlakyTest:
    """A test whose outcome differs between runs of one control: it passed in `passed` of `runs`.

    `low` and `high` bound its true pass rate with 95 % confidence (Wilson score interval).
    """

    control: Control
    name: str
    passed: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.passed, self.runs)


def decide(runs: Sequence[Run], repeat: int) -> Decision:
    """The verdict on these runs, of which each control should have `repeat` completed ones."""
    gold = [run.passed for run in runs if run.control is Control.GOLD and run.completed]
    nop = [run.passed for run in runs if run.control is Control.NOP and run.completed]
    if mixed := next((name for name, seen in (("gold", gold), ("nop", nop)) if len(set(seen)) > 1), None):
        seen = gold if mixed == "gold" else nop
        reason = f"{mixed} passed {sum(seen)} of {len(seen)} runs"
        return Decision(ProofVerdict.FLAKY, reason, final=True)
    complete = len(gold) >= repeat and len(nop) >= repeat
    if not complete:
        return Decision(ProofVerdict.INCONCLUSIVE, _missing(runs, len(gold), len(nop), repeat), final=False)
    if nop[0]:
        return Decision(ProofVerdict.TRIVIAL, f"the tests pass untouched, {len(nop)} of {len(nop)} times", final=True)
    if gold[0]:
        return Decision(ProofVerdict.SOLVABLE, f"the reference solution passes {len(gold)} of {len(gold)} times", True)
    reasons = Counter(run.reason for run in runs if run.control is Control.GOLD and run.completed and run.reason)
    common = f": {reasons.most_common(1)[0][0]}" if reasons else ""
    return Decision(
        ProofVerdict.UNSOLVABLE, f"the reference solution fails {len(gold)} of {len(gold)} times{common}", True
    )


def next_control(runs: Sequence[Run], repeat: int, spare: int) -> Control | None:
    """What to run next: gold and nop in turn, until the verdict is final or the runs are used up.

    `spare`: how many incomplete runs of each control may be repeated.
    """
    if decide(runs, repeat).final:
        return None
    wanted = []
    for control in Control:
        own = [run for run in runs if run.control is control]
        completed = sum(run.completed for run in own)
        if completed < repeat and len(own) - completed <= spare:
            wanted.append((completed, len(own), control))
    # A control that can't complete any more leaves the proof inconclusive: its partner's runs would be wasted.
    if len(wanted) < len(Control) and not _complete_otherwise(runs, repeat, wanted):
        return None
    return min(wanted, key=lambda entry: entry[:2])[2] if wanted else None


def _complete_otherwise(runs: Sequence[Run], repeat: int, wanted: Sequence[tuple[int, int, Control]]) -> bool:
    open_controls = {control for _, _, control in wanted}
    return all(
        sum(run.completed for run in runs if run.control is control) >= repeat
        for control in Control
        if control not in open_controls
    )


def flaky_tests(runs: Sequence[Run]) -> list[FlakyTest]:
    """The tests whose outcome differs between completed runs of the same control, the most even ones first."""
    found = []
    for control in Control:
        completed = [run for run in runs if run.control is control and run.completed and run.tests]
        for name in sorted({name for run in completed for name in run.tests}):
            passed = [run.tests.get(name) == "passed" for run in completed]
            if len(set(passed)) > 1:
                found.append(FlakyTest(control, name, sum(passed), len(passed)))
    return sorted(found, key=lambda test: abs(test.passed / test.runs - 0.5))


def wilson(passed: int, runs: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a pass rate; z = 1.96 is 95 % confidence. (0, 1) for no runs.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if runs == 0:
        return 0.0, 1.0
    rate = passed / runs
    centre = (rate + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * math.sqrt(rate * (1 - rate) / runs + z * z / (4 * runs * runs))
    return max(0.0, centre - half), min(1.0, centre + half)


def _missing(runs: Sequence[Run], gold: int, nop: int, repeat: int) -> str:
    counts = f"{gold} of {repeat} gold and {nop} of {repeat} nop runs completed"
    reasons = Counter(run.reason for run in runs if not run.completed and run.reason)
    return f"{counts}: {reasons.most_common(1)[0][0]}" if reasons else counts
