"""A run's folder: a completed result is never lost, whatever comes after it or fails."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.out_files import LOG, PREDICTION, RESULT, TRAJECTORY
from taskgate.harness.runner import artifacts
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.states import TaskState


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "out")


def _attempt(results: Results, state: TaskState, word: str, started: str = "2026-01-01") -> Path:
    fresh = results.fresh("one")
    names = []
    if state is TaskState.DONE:
        for name in (TRAJECTORY, PREDICTION):
            (fresh / name).write_text(json.dumps({"task_id": "one", "word": word}))
            names.append(name)
    (fresh / LOG).write_text(word)
    record = {"task_id": "one", "status": str(state), "word": word, "started": started}
    results.record(fresh, {**record, "artifacts": artifacts.describe(fresh, names)})
    return fresh


def _settle(results: Results, state: TaskState, word: str, started: str = "2026-01-01") -> None:
    results.settle("one", _attempt(results, state, word, started))


def _word(results: Results) -> Any:
    return (results.result("one") or {}).get("word")


def _kept(results: Results) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in results.folder("one").glob(f"attempts/*/{LOG}")}


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.INFRA])
def test_what_did_not_complete_never_replaces_what_did(results: Results, state: TaskState) -> None:
    with results.held():
        _settle(results, TaskState.DONE, "first")
        _settle(results, state, "second", "2026-01-02")
        _settle(results, state, "third", "2026-01-03")
        assert _word(results) == "first" and _kept(results) == {"1": "second", "2": "third"}
        assert (results.last("one") or {})["word"] == "third"
        _settle(results, TaskState.DONE, "fourth", "2026-01-04")
    assert _word(results) == "fourth" and _kept(results) == {"1": "second", "2": "third", "3": "first"}


def test_files_that_were_fetched_late_replace_nothing_newer(results: Results) -> None:
    """The engine that had them was away, and the task was done on another one meanwhile."""
    with results.held():
        _settle(results, TaskState.DONE, "newer", "2026-01-02")
        _settle(results, TaskState.DONE, "older", "2026-01-01")
    assert _word(results) == "newer" and _kept(results) == {"1": "older"}


def test_what_failed_is_replaced_and_kept(results: Results) -> None:
    with results.held():
        _settle(results, TaskState.FAILED, "first")
        _settle(results, TaskState.INFRA, "second")
        _settle(results, TaskState.DONE, "third")
    assert _word(results) == "third" and _kept(results) == {"1": "first", "2": "second"}


def test_a_result_that_was_spoilt_did_not_complete(results: Results) -> None:
    with results.held():
        _settle(results, TaskState.DONE, "first")
        (results.folder("one") / PREDICTION).write_text("{}")
        _settle(results, TaskState.FAILED, "second")
    assert _word(results) == "second" and _kept(results) == {"1": "first"}


def test_a_rename_that_fails_loses_nothing(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, fails = Path.rename, [False, True]

    def failing(path: Path, target: Path) -> Path:
        if path.parent.name == ".running" and fails.pop(0):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return rename(path, target)

    with results.held():
        _settle(results, TaskState.DONE, "first")
        fresh = _attempt(results, TaskState.DONE, "second")
        fails[:] = [True] * 9
        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            results.settle("one", fresh)
        assert _word(results) == "first"
    # Not at the run's end either.
    assert _word(results) == "first"
    monkeypatch.undo()
    with results.held():
        assert _word(results) == "second" and _kept(results) == {"1": "first"}


@pytest.mark.parametrize("renames", range(4))
def test_a_kill_between_any_two_renames(results: Results, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    class Killed(BaseException):
        pass

    with results.held():
        _settle(results, TaskState.DONE, "first")
        _settle(results, TaskState.FAILED, "failed")
        fresh = _attempt(results, TaskState.DONE, "second")
        rename, left = Path.rename, [renames]

        def killed(path: Path, target: Path) -> Path:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", killed)
        with contextlib.suppress(Killed):
            results.settle("one", fresh)
        monkeypatch.undo()
        # What a killed process can't do.
        monkeypatch.setattr(Results, "_tidy", lambda results: None)
    monkeypatch.undo()
    with results.held():
        assert _word(results) == "second" and sorted(_kept(results).values()) == ["failed", "first"]
    assert not (results.out / ".running").exists()


def test_a_driver_can_not_leave_attempts(results: Results) -> None:
    with results.held():
        _settle(results, TaskState.DONE, "first")
        fresh = results.fresh("one")
        (fresh / "attempts" / "1").mkdir(parents=True)
        (fresh / "attempts" / "1" / RESULT).write_text("{}")
        results.record(fresh, {"task_id": "one", "status": "failed", "word": "second"})
        results.settle("one", fresh)
    assert _word(results) == "first" and not (results.folder("one") / "attempts/1/attempts").exists()


def test_an_error_of_the_run_is_not_one_of_its_folder(results: Results) -> None:
    """A connection that breaks in the middle of a run says nothing of --out."""
    with pytest.raises(ConnectionResetError), results.held():
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    (results.out.parent / "file").write_text("")
    with pytest.raises(InfraError, match="file"), Results(results.out.parent / "file").held():
        pass


def test_one_run_at_a_time(results: Results) -> None:
    with results.held():
        assert results.busy()
        with pytest.raises(UsageError, match="another run is at work"), Results(results.out).held():
            pass
    assert not results.busy()
