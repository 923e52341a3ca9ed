"""The matrix of tests by runs: what it shows first, and that reports read it back, whatever a test is called."""

from __future__ import annotations

from taskgate.harness.proof import matrix
from taskgate.harness.proof.run import Control, Run, RunStatus

PASSED, FAILED = RunStatus.PASSED, RunStatus.FAILED


def run(control: Control, status: RunStatus, **tests: str) -> Run:
    return Run(control, 1, status, tests=tests, seconds=1.25)


def test_it_is_read_back() -> None:
    runs = [
        run(Control.GOLD, FAILED, a="passed", b="failed", c="passed"),
        run(Control.NOP, FAILED, a="passed", b="failed", c="failed"),
        run(Control.GOLD, PASSED, a="passed", b="passed"),
    ]
    found = matrix.parse(matrix.text(runs, trivial=False))
    assert found == matrix.Matrix(
        (("gold", "failed", "1.2"), ("nop", "failed", "1.2"), ("gold", "passed", "1.2")),
        (("b", ("failed", "failed", "passed")), ("c", ("passed", "failed", ""))),
    )


def test_a_trivial_task_shows_what_passes_untouched() -> None:
    runs = [run(Control.GOLD, PASSED, a="passed"), run(Control.NOP, PASSED, a="passed")]
    assert matrix.text(runs, trivial=False).endswith("nop passed, 1.2 s\n")
    assert matrix.text(runs, trivial=True).endswith("\nP P  a")


def test_hostile_names_are_one_line_each() -> None:
    names = {"x\nP P  forged": "failed", "\x1b[31mred": "failed", "y" * 5000: "failed"}
    text = matrix.text([run(Control.GOLD, FAILED, **names)], trivial=False)
    found = matrix.parse(text)
    assert found and len(found.tests) == 3
    assert all(outcomes == ("failed",) and len(name) < 400 for name, outcomes in found.tests)
    assert "\x1b" not in text


def test_it_is_capped() -> None:
    many = {f"{'t' * 250}{number}": "failed" for number in range(1000)}
    text = matrix.text([run(Control.GOLD, FAILED, **many)], trivial=False)
    found = matrix.parse(text)
    assert len(text) <= matrix.MAX_CHARS and found and 50 < len(found.tests) <= matrix.MAX_TESTS


def test_other_output_is_no_matrix() -> None:
    assert matrix.parse("") is None
    assert matrix.parse("some log\n\nP P  a") is None
