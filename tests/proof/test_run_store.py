"""What is kept of runs between processes."""

from __future__ import annotations

from pathlib import Path

from taskgate.harness.proof.run import Control, Run, RunStatus
from taskgate.harness.proof.run_store import RUNS, RunStore, runs_by_task

KEY = ("one", "sha256:1", "mark")


def run(number: int, status: RunStatus = RunStatus.PASSED) -> Run:
    return Run(Control.GOLD, number, status)


def test_completed_runs_count_for_their_key(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.add(KEY, run(1))
    store.add(KEY, run(2, RunStatus.INCOMPLETE))
    again = RunStore(tmp_path)
    assert [known.number for known in again.runs(KEY)] == [1]
    assert again.runs(("one", "sha256:2", "mark")) == again.runs(("one", "sha256:1", "other")) == []


def test_forgotten_runs_stay_forgotten(tmp_path: Path) -> None:
    RunStore(tmp_path).add(KEY, run(1))
    store = RunStore(tmp_path)
    store.forget(KEY)
    store.add(KEY, run(2))
    assert [known.number for known in store.runs(KEY)] == [2]
    assert [known.number for known in RunStore(tmp_path).runs(KEY)] == [2]
    assert [known.number for known in runs_by_task(tmp_path)["one"]] == [2]


def test_damaged_lines_cost_themselves_alone(tmp_path: Path) -> None:
    RunStore(tmp_path).add(KEY, run(1))
    with (tmp_path / RUNS).open("a") as file:
        file.write('{"task_id": "one", "digest": "sha256:1", "fingerprint": "mark", "run": {"control": "evil"}}\n')
        file.write('{"task_id": "one", "digest": "sha256:1", "fingerprint": "mark", "run": "text"}\n{"half')
    assert [known.number for known in RunStore(tmp_path).runs(KEY)] == [1]
