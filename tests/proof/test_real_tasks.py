"""Twenty tasks of published projects, in the formats of four families, whose graders agree on every test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.proof.run import Control, Run
from taskgate.harness.proof.run_store import runs_by_task
from tests.proof import projects
from tests.proof.projects import BUGS

pytestmark = pytest.mark.slow
MAIN = "import sys; from taskgate.harness.cli.main import main; sys.exit(main())"
REPEAT = 3


@pytest.fixture(scope="module")
def built(client: Any) -> dict[str, str]:
    return {bug.name: projects.build(client, bug) for bug in BUGS}


@pytest.fixture(scope="module")
def by_junit(built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Run]]:
    """The runs of the manifest's tasks, whose outcomes pytest wrote itself."""
    folder = tmp_path_factory.mktemp("manifest")
    return proven(projects.manifest(folder, built), folder / "out")


def proven(source: Path, out: Path, *options: str) -> dict[str, list[Run]]:
    """The runs of each task, all of which were proven solvable."""
    argv = [sys.executable, "-c", MAIN, "prove", str(source), f"--out={out}", f"--repeat={REPEAT}", "-j2"]
    argv += [f"--skip-list={out}/skip.txt", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(BUGS)} solvable" in done.stdout
    runs = runs_by_task(out)
    assert {name: len(own) for name, own in runs.items()} == {bug.name: 2 * REPEAT for bug in BUGS}
    return runs


def passed(runs: list[Run], control: Control) -> set[str]:
    """The tests that pass in every run of a control, by pytest's names; the runs agree."""
    found = [
        {_node(name) for name, outcome in run.tests.items() if outcome == "passed"}
        for run in runs
        if run.control is control
    ]
    assert len(found) == REPEAT and all(tests == found[0] for tests in found)
    return found[0]


def _node(name: str) -> str:
    """The name that all formats have in common: of `tests.test_a.TestB::test_c`, `tests/test_a.py::TestB::test_c` and
    `TestB::test_c`, the last part. Parsers of logs take any space for one."""
    test, bracket, parameters = " ".join(name.split()).partition("[")
    return test.rpartition("::")[2] + bracket + parameters


def test_a_manifest(by_junit: dict[str, list[Run]]) -> None:
    for runs in by_junit.values():
        assert len(passed(runs, Control.GOLD) - passed(runs, Control.NOP)) >= 1
        assert all(run.peak_memory and run.seconds > 0 for run in runs)


def test_harbor(built: dict[str, str], tmp_path: Path) -> None:
    # Its reward is one number for all tests.
    runs = proven(projects.harbor(tmp_path / "tasks", built), tmp_path / "out")
    assert all(run.tests == {"reward": "passed" if run.passed else "failed"} for own in runs.values() for run in own)


def test_terminal_bench(built: dict[str, str], by_junit: dict[str, list[Run]], tmp_path: Path) -> None:
    runs = proven(projects.terminal_bench(tmp_path / "tasks", built), tmp_path / "out")
    for name, own in runs.items():
        for control in (Control.GOLD, Control.NOP):
            assert passed(own, control) == passed(by_junit[name], control)


def test_swebench(built: dict[str, str], by_junit: dict[str, list[Run]], tmp_path: Path) -> None:
    """The publisher's own report on each log says the same of each test as the run, and as JUnit."""
    utils = pytest.importorskip("swebench.harness.utils")
    from swebench.harness.grading import get_eval_report

    source = projects.swebench(tmp_path, built, _changed(tmp_path, by_junit))
    runs = proven(source, tmp_path / "out", "--format=swebench")
    rows = {row["instance_id"]: row for row in map(json.loads, source.read_text().splitlines())}
    for name, own in runs.items():
        for run in own:
            log = tmp_path / "out" / name / f"{run.control}-{run.number}" / "tests.log"
            prediction = {"instance_id": name, "model_name_or_path": "gold", "model_patch": rows[name]["patch"]}
            report = get_eval_report(utils.make_test_spec(rows[name]), prediction, str(log), True)[name]
            assert report["resolved"] == run.passed
            for kind in ("FAIL_TO_PASS", "PASS_TO_PASS"):
                for outcome, tests in report["tests_status"][kind].items():
                    expected = "passed" if outcome == "success" else "failed"
                    assert {run.tests[test] for test in tests} <= {expected}
        for control in (Control.GOLD, Control.NOP):
            assert passed(own, control) == passed(by_junit[name], control)


def _changed(folder: Path, by_junit: dict[str, list[Run]]) -> dict[str, tuple[list[str], list[str]]]:
    """FAIL_TO_PASS and PASS_TO_PASS of each bug as JUnit has them, by the names that pytest prints."""
    found = {}
    for bug in BUGS:
        runs = by_junit[bug.name]
        names = {_node(name): _printed(name, bug.tests) for run in runs for name in run.tests}
        gold, nop = passed(runs, Control.GOLD), passed(runs, Control.NOP)
        found[bug.name] = (sorted(names[name] for name in gold - nop), sorted(names[name] for name in gold & nop))
    return found


def _printed(name: str, file: str) -> str:
    """`tests/test_a.py::TestB::test_c` of JUnit's `tests.test_a.TestB::test_c`."""
    group, _, test = " ".join(name.split()).partition("::")
    inner = group.removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join([file, *([inner.replace(".", "::")] if inner else []), test])
