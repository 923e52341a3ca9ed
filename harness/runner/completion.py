"""When is a task done? When its results are whole, its own, of this image and this run, and of an agent that ran."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY
from taskgate.harness.runner.results import Results
from taskgate.harness.tasks.yaml_tree import parse_json

JSON_BYTES = 256 << 20
NAMES = ("task_id", "instance_id")
INSIDE = ("info", "metadata", "extra")
# What a prediction says besides its answer.
ABOUT = {
    *NAMES,
    *INSIDE,
    "id",
    "model",
    "model_name_or_path",
    "model_name",
    "agent",
    "status",
    "exit_status",
    "timestamp",
}
INFRA_FLAGS = ("infra_failure", "infrastructure_failure", "infra_error")
INFRA_FIELDS = ("status", "exit_status", "outcome", "error_type")

# A trajectory may be large, and many tasks end at once.
_parsing = threading.Lock()


class Unfinished(Exception):
    """Why a task is not done. `infra`: its results say themselves that the infrastructure failed."""

    def __init__(self, reason: str, *, infra: bool = False) -> None:
        super().__init__(reason)
        self.infra = infra


def check(results: Results, task_id: str, *, digest: str | None, config: str) -> None:
    """Is it done? `digest` is the image's, if it is known. Raises Unfinished."""
    try:
        _check(results, task_id, digest, config)
    except OSError as error:
        raise Unfinished(f"its results can't be read: {error}") from error


def _check(results: Results, task_id: str, digest: str | None, config: str) -> None:
    told, folder = results.result(task_id), results.folder(task_id)
    if told is None:
        raise Unfinished("no result is recorded")
    if told.get("status") != "done":
        raise Unfinished(f"the last attempt's status is {told.get('status')}")
    if told.get("config") != config:
        raise Unfinished("it was made by a run with other settings")
    if digest is not None and told.get("digest") != digest:
        raise Unfinished("it was made on an older build of the image")
    artifacts = told.get("artifacts")
    if not isinstance(artifacts, dict) or not {TRAJECTORY, PREDICTION} <= artifacts.keys():
        raise Unfinished("its files are not recorded")
    for name, known in artifacts.items():
        path = folder / name
        if "/" in name or path.is_symlink() or not path.is_file() or _described(path, name) != known:
            raise Unfinished(f"{name} is not as it was when it was made")
    inspect(folder, task_id)


def inspect(folder: Path, task_id: str) -> None:
    """Are trajectory and prediction whole, this task's, and no excuse? Raises Unfinished."""
    with _parsing:
        trajectory = _document(folder / TRAJECTORY, task_id)
        prediction = _document(folder / PREDICTION, task_id)
        answer = {name: value for name, value in prediction.items() if name not in ABOUT}
        if not answer:
            raise Unfinished(f"{PREDICTION} holds no prediction")
        # To change nothing is an answer, of an agent that has done something.
        if not any(answer.values()) and not any(isinstance(value, list) and value for value in trajectory.values()):
            raise Unfinished(f"{PREDICTION} is empty, and so is {TRAJECTORY}")


def describe(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """What is recorded of the files of an attempt, so that a later change is seen."""
    return {name: _described(folder / name, name) for name in names}


def _described(path: Path, name: str) -> dict[str, Any]:
    size = path.stat().st_size
    if name not in (TRAJECTORY, PREDICTION) or size > JSON_BYTES:
        return {"bytes": size}
    return {"bytes": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


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
    parts = [document, *(document[name] for name in INSIDE if isinstance(document.get(name), dict))]
    named = [part[name] for part in parts for name in NAMES if name in part]
    if not named:
        raise Unfinished(f"{path.name} names no task (task_id or instance_id)")
    if any(name != task_id for name in named):
        raise Unfinished(f"{path.name} is of another task: {named}")
    for part in parts:
        flags = [name for name in INFRA_FLAGS if part.get(name)]
        fields = [n for n in INFRA_FIELDS if isinstance(part.get(n), str) and "infra" in part[n].lower()]
        if flags or fields:
            name = (flags or fields)[0]
            raise Unfinished(f"{path.name} records an infrastructure failure ({name}: {part[name]})", infra=True)
    return document
