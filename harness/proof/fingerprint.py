"""What the runs of a proof depend on, beside the image: equal fingerprints mean that earlier runs count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.plan import Command, Plan, Put, Step
from taskgate.harness.tasks.task import Task

# Fields of a task that its container or its tests notice.
FIELDS = ("repo_path", "workdir", "user", "network", "env", "platform")
MAX_FILES = 100_000


def of(task: Task, plan: Plan) -> str:
    """A short hash of the container's settings, the solution and the tests. Raises UsageError for unreadable files."""
    known = {name: getattr(task, name) for name in FIELDS} | task.container_settings()
    proof = task.proof
    text = json.dumps(
        [
            known,
            asdict(task.limits),
            asdict(task.runtime) if task.runtime else None,
            (proof.harness, proof.junit, proof.pass_when, proof.user) if proof else None,
            [
                _step(step)
                for step in (*plan.solve, *plan.prepare, plan.test, *([plan.untouched] if plan.untouched else []))
            ],
        ],
        sort_keys=True,
        default=dict,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _step(step: Step) -> list[object]:
    if isinstance(step, Command):
        return [step.argv, step.seconds, step.workdir, step.user, dict(step.environment)]
    assert isinstance(step, Put)
    return [step.path, step.mode, _digest(step.content)]


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    total = hashlib.sha256()
    try:
        for path in _files(content):
            total.update(f"{path.relative_to(content)}\0{path.stat().st_mode}\0".encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UsageError(f"{content} can't be read: {error.strerror}") from error
    return total.hexdigest()


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if len(files) > MAX_FILES:
        raise UsageError(f"{path} holds more than {MAX_FILES:,} files")
    return files
