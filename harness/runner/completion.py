"""When is a task done? When its results are whole, its own, of this image and these settings, and of an agent that came
to a result: see docs/running-agents.md."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY
from taskgate.harness.runner import artifacts, blame
from taskgate.harness.runner.artifacts import JSON_BYTES
from taskgate.harness.runner.blame import Failure, Statement
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.signatures import SUBMITTED_FLAGS, Party
from taskgate.harness.runner.states import TaskState
from taskgate.harness.tasks.yaml_tree import parse_json

NAMES = ("task_id", "instance_id")
INSIDE = ("info", "metadata", "extra")
# What a prediction says besides its answer.
ABOUT = {
    *NAMES,
    *INSIDE,
    *blame.STATUS_FIELDS,
    *blame.ERROR_FIELDS,
    *blame.INFRA_FLAGS,
    *SUBMITTED_FLAGS,
    "id",
    "model",
    "model_name_or_path",
    "model_name",
    "agent",
    "timestamp",
}

# A trajectory may be large, and many tasks end at once.
_parsing = threading.Lock()


class Unfinished(Exception):
    """Why a task is not done, and who failed. What the endpoint or the infrastructure did is tried again."""

    def __init__(self, reason: str, *, party: Party = Party.AGENT) -> None:
        super().__init__(reason)
        self.party = party


@dataclass(frozen=True, slots=True)
class Ending:
    """How an agent's process ended.

    `status` is its exit status; None where it was ended, or where nobody knows. `stopped` says by which limit it was
    ended before its own end. `calls_spent`: its endpoint refused calls because all that its budget allows were made.
    """

    status: int | None = None
    stopped: str | None = None
    calls_spent: bool = False

    @property
    def by_itself(self) -> bool:
        return self.stopped is None

    def __str__(self) -> str:
        if self.stopped:
            return f"the agent {self.stopped}"
        return f"the agent ended with status {self.status}" if self.status else ""


def check(results: Results, task_id: str, *, digests: Iterable[str] | None, config: str | None) -> None:
    """Is it done? `digests` are the image's, if they are known, and `config` the settings. Raises Unfinished."""
    try:
        _check(results, task_id, digests, config)
    except OSError as error:
        raise Unfinished(f"its results can't be read: {error}") from error


def _check(results: Results, task_id: str, digests: Iterable[str] | None, config: str | None) -> None:
    record, folder = results.result(task_id), results.folder(task_id)
    if record is None:
        raise Unfinished("no result is recorded")
    if record.get("status") != TaskState.DONE:
        raise Unfinished(f"the last attempt's status is {record.get('status')}")
    if config is not None and record.get("config") != config:
        raise Unfinished("it was made with other settings")
    if digests is not None and not set(digests) & recorded_digests(record):
        raise Unfinished("it was made on an older build of the image")
    if problem := artifacts.changed(folder, record.get("artifacts")):
        raise Unfinished(problem)
    exit_status, stopped = record.get("exit_status"), record.get("stopped")
    ending = Ending(exit_status if isinstance(exit_status, int) else None, str(stopped) if stopped else None)
    assess(read(folder, task_id), ending)


def recorded_digests(record: dict[str, Any]) -> set[str]:
    """All digests by which the image of a result is known: its id on the engine, and those of its repository."""
    digests = record.get("digests")
    return {str(digest) for digest in (record.get("digest"), *(digests if isinstance(digests, list) else ())) if digest}


def inspect(folder: Path, task_id: str) -> None:
    """Are trajectory and prediction whole, this task's, and no record of a failure? Raises Unfinished."""
    assess(read(folder, task_id), Ending())


def assess(statement: Statement, ending: Ending) -> None:
    """Did the agent come to a result? Raises Unfinished where it did not."""
    failure = statement.failure
    if failure and failure.kind == "rate limit" and ending.calls_spent:
        # The relay's own answer to a call beyond the budget.
        failure = Failure(Party.AGENT, "calls", "all that its budget allows were made", failure.file)
    if failure and failure.party is not Party.AGENT:
        raise Unfinished(f"{ending}: {failure}" if str(ending) else str(failure), party=failure.party)
    if statement.empty:
        _assess_empty(statement, ending, failure)
    elif ending.by_itself and ending.status and not statement.submitted:
        raise Unfinished(f"{ending}, and its files do not say that it submitted its prediction")


def _assess_empty(statement: Statement, ending: Ending, failure: Failure | None) -> None:
    """To change nothing is an answer of an agent that ended by itself, and says that it is its answer."""
    prefix = f"{ending}: " if str(ending) else ""
    if failure:
        raise Unfinished(f"{prefix}{PREDICTION} is empty ({failure})")
    if not statement.steps:
        raise Unfinished(f"{prefix}{PREDICTION} is empty, and so is {TRAJECTORY}")
    if not ending.by_itself or ending.status:
        raise Unfinished(f"{prefix}{PREDICTION} is empty")
    if not statement.submitted:
        raise Unfinished(
            f"{PREDICTION} is empty, and nothing says that the agent submitted it (exit_status: submitted)"
        )


def read(folder: Path, task_id: str) -> Statement:
    """What an agent's files say. Raises Unfinished where they are missing, damaged or another task's."""
    with _parsing:
        trajectory = _document(folder / TRAJECTORY, task_id)
        prediction = _document(folder / PREDICTION, task_id)
        answer = {name: value for name, value in prediction.items() if name not in ABOUT}
        if not answer:
            raise Unfinished(f"{PREDICTION} holds no prediction")
        parts, predicted = _parts(trajectory), _parts(prediction)
        return Statement(
            submitted=blame.submitted([*parts, *predicted]),
            empty=all(_blank(value) for value in answer.values()),
            steps=any(isinstance(value, list) and value for value in trajectory.values()),
            failure=blame.of_parts(TRAJECTORY, parts) or blame.of_parts(PREDICTION, predicted),
        )


def _blank(value: object) -> bool:
    return not (value.strip() if isinstance(value, str) else value)


def _parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a document in which agents say what task it is and how it went."""
    return [document, *(document[name] for name in INSIDE if isinstance(document.get(name), dict))]


def _document(path: Path, task_id: str) -> dict[str, Any]:
    if not path.is_file() or path.is_symlink():
        raise Unfinished(f"there is no {path.name}")
    if path.stat().st_size > JSON_BYTES:
        raise Unfinished(f"{path.name} is larger than {JSON_BYTES >> 20} MiB")
    try:
        document = parse_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unfinished(f"{path.name} is no JSON, or is cut short: {error}") from error
    if not isinstance(document, dict):
        raise Unfinished(f"{path.name} is no JSON object")
    named = [part[name] for part in _parts(document) for name in NAMES if name in part]
    if not named:
        raise Unfinished(f"{path.name} names no task (task_id or instance_id)")
    if any(name != task_id for name in named):
        raise Unfinished(f"{path.name} is of another task: {named}")
    return document
