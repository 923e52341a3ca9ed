"""Tests by runs: which test passed in which run, as text that a report can read back. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from taskgate.harness.base import escape
from taskgate.harness.proof.decision import flaky_tests
from taskgate.harness.proof.run import Run

LETTERS = {"passed": "P", "failed": "F", "error": "E", "skipped": "S"}
OUTCOMES = {letter: outcome for outcome, letter in LETTERS.items()} | {"-": ""}
ABSENT = "-"
MAX_TESTS, NAME_CHARS, MAX_CHARS = 100, 300, 16_000
HEAD = re.compile(r"run \d+: (?P<control>[a-z-]+) (?P<status>[a-z]+), (?P<seconds>[0-9.]+) s")
ROW = re.compile(r"(?P<letters>[PFES-](?: [PFES-])*)  (?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Matrix:
    """`runs`: control, status and seconds of each run. `tests`: a name and an outcome for each run; "" where the run
    did not report the test."""

    runs: tuple[tuple[str, str, str], ...]
    tests: tuple[tuple[str, tuple[str, ...]], ...]


def text(runs: Sequence[Run], *, trivial: bool) -> str:
    """The runs, then the tests that explain the verdict. `trivial`: those that pass without a solution as well."""
    heads = [f"run {number}: {run.control} {run.status}, {run.seconds:.1f} s" for number, run in enumerate(runs, 1)]
    rows = []
    for name in _names(runs, trivial=trivial)[:MAX_TESTS]:
        letters = " ".join(LETTERS.get(run.tests.get(name, ""), ABSENT) for run in runs)
        rows.append(f"{letters}  {escape.line(name, NAME_CHARS)}")
    whole = "\n".join([*heads, "", *rows])
    return whole if len(whole) <= MAX_CHARS else whole[:MAX_CHARS].rpartition("\n")[0]


def parse(output: str) -> Matrix | None:
    """The inverse of `text`; None where `output` is something else."""
    heads, _, rows = output.partition("\n\n")
    matches = [HEAD.fullmatch(line) for line in heads.strip().splitlines()]
    runs = tuple((match["control"], match["status"], match["seconds"]) for match in matches if match)
    if not runs or len(runs) != len(matches):
        return None
    tests = []
    for line in rows.splitlines():
        if match := ROW.fullmatch(line):
            outcomes = tuple(OUTCOMES[letter] for letter in match["letters"].split(" "))
            if len(outcomes) == len(runs):
                tests.append((match["name"], outcomes))
    return Matrix(runs, tuple(tests))


def _names(runs: Sequence[Run], *, trivial: bool) -> list[str]:
    """Tests that differ between runs first, then those that fail with the solution."""
    names = dict.fromkeys(test.name for test in flaky_tests(runs))
    for run in runs:
        if run.control.solves:
            names |= dict.fromkeys(
                sorted(name for name, outcome in run.tests.items() if outcome in ("failed", "error"))
            )
        elif trivial:
            names |= dict.fromkeys(sorted(name for name, outcome in run.tests.items() if outcome == "passed"))
    return list(names)
