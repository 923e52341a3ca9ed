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


def decide(runs: Sequence[Run], repeat: int, *, offline: bool = False) -> Decision:
    """The verdict on these runs, of which each control should have `repeat` completed ones.

    `offline`: the controls without a network count as well.
    """
    seen = {control: [run.passed for run in runs if run.control is control and run.completed] for control in Control}
    for control, passed in seen.items():
        if len(set(passed)) > 1:
            return Decision(ProofVerdict.FLAKY, f"{control} passed {sum(passed)} of {len(passed)} runs", final=True)
    if any(len(seen[control]) < repeat for control in controls(offline)):
        return Decision(ProofVerdict.INCONCLUSIVE, _missing(runs, seen, repeat, offline), final=False)
    gold, nop = seen[Control.GOLD], seen[Control.NOP]
    if nop[0] or (offline and seen[Control.NOP_OFFLINE][0]):
        return Decision(ProofVerdict.TRIVIAL, f"the tests pass untouched, {repeat} of {repeat} times", final=True)
    if gold[0] and offline and not seen[Control.GOLD_OFFLINE][0]:
        reason = "the reference solution passes with a network and fails without one"
        return Decision(ProofVerdict.NEEDS_NETWORK, reason, final=True)
    if gold[0]:
        return Decision(ProofVerdict.SOLVABLE, f"the reference solution passes {len(gold)} of {len(gold)} times", True)
    reasons = Counter(run.reason for run in runs if run.control is Control.GOLD and run.completed and run.reason)
    common = f": {reasons.most_common(1)[0][0]}" if reasons else ""
    reason = f"the reference solution fails {len(gold)} of {len(gold)} times{common}"
    return Decision(ProofVerdict.UNSOLVABLE, reason, final=True)


def controls(offline: bool) -> tuple[Control, ...]:
    """The controls of a proof, in the order in which they alternate."""
    return tuple(Control) if offline else (Control.GOLD, Control.NOP)


def next_control(runs: Sequence[Run], repeat: int, spare: int, *, offline: bool = False) -> Control | None:
    """What to run next: the controls in turn, until the verdict is final or no further run can make it so.

    `spare`: how many incomplete runs of each control may be repeated.
    """
    if decide(runs, repeat, offline=offline).final:
        return None
    wanted = []
    for place, control in enumerate(controls(offline)):
        own = [run for run in runs if run.control is control]
        completed = sum(run.completed for run in own)
        if completed >= repeat:
            continue
        if len(own) - completed > spare:
            # It can't be completed any more, so the proof stays inconclusive: the others' runs would be wasted.
            return None
        wanted.append((completed, len(own), place, control))
    return min(wanted)[-1] if wanted else None


def flaky_tests(runs: Sequence[Run]) -> list[FlakyTest]:
    """The tests whose outcome differs between completed runs of the same control, the most even ones first."""
    flaky = []
    for control in Control:
        completed = [run for run in runs if run.control is control and run.completed and run.tests]
        for name in sorted({name for run in completed for name in run.tests}):
            passed = [run.tests.get(name) == "passed" for run in completed]
            if len(set(passed)) > 1:
                flaky.append(FlakyTest(control, name, sum(passed), len(passed)))
    return sorted(flaky, key=lambda test: abs(test.passed / test.runs - 0.5))


def wilson(passed: int, runs: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a pass rate; z = 1.96 is 95 % confidence. (0, 1) for no runs.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if runs == 0:
        return 0.0, 1.0
    rate = passed / runs
    centre = (rate + z * z / (2 * runs)) / (1 + z * z / runs)
    margin = z / (1 + z * z / runs) * math.sqrt(rate * (1 - rate) / runs + z * z / (4 * runs * runs))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def _missing(runs: Sequence[Run], seen: dict[Control, list[bool]], repeat: int, offline: bool) -> str:
    counts = " and ".join(f"{len(seen[control])} of {repeat} {control}" for control in controls(offline))
    reasons = Counter(run.reason for run in runs if not run.completed and run.reason)
    return f"{counts} runs completed" + (f": {reasons.most_common(1)[0][0]}" if reasons else "")
