"""From runs to a verdict, and which run comes next."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgate.harness.proof.decision import ProofVerdict, decide, flaky_tests, next_control, wilson
from taskgate.harness.proof.run import Control, Run, RunStatus

LETTERS = {
    "G": (Control.GOLD, RunStatus.PASSED), "g": (Control.GOLD, RunStatus.FAILED),
    "N": (Control.NOP, RunStatus.PASSED), "n": (Control.NOP, RunStatus.FAILED),
    "i": (Control.GOLD, RunStatus.INCOMPLETE), "j": (Control.NOP, RunStatus.INCOMPLETE),
}  # fmt: skip


def runs(text: str) -> list[Run]:
    """`G` and `g`: gold passed, failed; `N` and `n`: nop likewise; `i`, `j`: incomplete."""
    return [Run(*LETTERS[letter][:1], number, LETTERS[letter][1]) for number, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "verdict", "final"),
    [
        ("GnGnGn", "solvable", True),
        ("gngngn", "unsolvable", True),
        ("GNGNGN", "trivial", True),
        ("gNgNgN", "trivial", True),
        ("Gg", "flaky", True),
        ("GnN", "flaky", True),
        ("GnG", "inconclusive", False),
        ("", "inconclusive", False),
        ("GnGnij", "inconclusive", False),
        ("GiiGnjGnn", "solvable", True),
    ],
)
def test_the_verdict(text: str, verdict: str, final: bool) -> None:
    decision = decide(runs(text), 3)
    assert (decision.verdict, decision.final) == (verdict, final)


def test_the_reason_of_what_is_incomplete_is_given() -> None:
    lost = Run(Control.GOLD, 0, RunStatus.INCOMPLETE, reason="the registry answered 429")
    assert decide([lost], 1).reason == "0 of 1 gold and 0 of 1 nop runs completed: the registry answered 429"


def drive(results: str, repeat: int, spare: int) -> list[Run]:
    """Run what `next_control` asks for; each control's results come from its own letters."""
    given_results = {Control.GOLD: iter(results.split("/")[0]), Control.NOP: iter(results.split("/")[1])}
    seen: list[Run] = []
    while control := next_control(seen, repeat, spare):
        letter = next(given_results[control])
        seen.append(Run(control, len(seen), LETTERS[letter][1]))
        assert len(seen) < 50
    return seen


def test_controls_alternate() -> None:
    assert [run.control for run in drive("GGG/nnn", 3, 1)] == [Control.GOLD, Control.NOP] * 3


def test_a_flaky_task_is_stopped_early() -> None:
    assert len(drive("Gg/nn", 3, 1)) == 3


def test_an_incomplete_run_is_repeated_and_then_given_up() -> None:
    assert decide(drive("iGGG/nnn", 3, 1), 3).verdict is ProofVerdict.SOLVABLE
    lost = drive("iiGGGG/nnn", 3, 1)
    assert decide(lost, 3).verdict is ProofVerdict.INCONCLUSIVE and len(lost) <= 4


@given(st.lists(st.sampled_from("GgNnij"), max_size=14), st.integers(1, 4))
def test_a_final_verdict_stays(letters: list[str], repeat: int) -> None:
    """Whatever further run comes, up to the number that is asked for."""
    text = "".join(letters)
    decision = decide(runs(text), repeat)
    if decision.final and decision.verdict is ProofVerdict.FLAKY:
        assert all(decide(runs(text + more), repeat).verdict is decision.verdict for more in "GgNnij")
    if decision.final:
        assert next_control(runs(text), repeat, 1) is None


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_interval_holds_the_rate(passed: int, failed: int) -> None:
    low, high = wilson(passed, passed + failed)
    assert 0 <= low <= high <= 1
    if passed + failed:
        assert low - 1e-9 <= passed / (passed + failed) <= high + 1e-9


def test_the_interval_is_the_published_one() -> None:
    """Wilson, 5 of 10: 0.2366 to 0.7634."""
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_which_tests_are_flaky() -> None:
    seen = [
        Run(Control.GOLD, number, RunStatus.FAILED, tests={"a": "passed", "b": outcome})
        for number, outcome in enumerate(itertools.islice(itertools.cycle(["passed", "failed"]), 4))
    ]
    (test,) = flaky_tests(seen)
    assert (test.control, test.name, test.passed, test.runs) == (Control.GOLD, "b", 2, 4)
    assert test.interval == pytest.approx(wilson(2, 4))
