"""What a run of a control does in its container, step by step, and how the outcome is read from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from taskgate.harness.proof.run import Control, RunStatus
from taskgate.harness.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Put:
    """A file of these bytes, or a copy of a file or folder of this host, at `path` in the container. Owned by root."""

    path: str
    content: bytes | Path
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Command:
    """A command in the container, for at most `seconds`. `required`: the run has failed where its status is not 0.

    `user` and `workdir` None: the container's user, and where the agent would start.
    """

    argv: tuple[str, ...]
    seconds: float
    required: bool = False
    workdir: str | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


Step = Put | Command


@dataclass(frozen=True, slots=True)
class Plan:
    """`solve` is done for gold alone, `prepare` before the tests of every control; `test` runs them,
    or `untouched`, if the harness has another command where nothing was solved.

    `read` is given what the tests left and says how they came out.
    """

    solve: Sequence[Step]
    prepare: Sequence[Step]
    test: Command
    read: Callable[[Traces], Outcome]
    untouched: Command | None = None

    def tests_of(self, control: Control) -> Command:
        """What runs the tests of a control."""
        return self.untouched if self.untouched and not control.solves else self.test


@dataclass(frozen=True, slots=True)
class Outcome:
    """`tests` as in Run. `status` INCOMPLETE where the tests did not get as far as an outcome of their own."""

    status: RunStatus
    reason: str | None = None
    tests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traces:
    """What the tests left: their exit status, their log on this host, and `fetch` for files of the container.

    `fetch(path, limit)` gives a file's bytes, or None where there is none; it raises ValueError for a file larger than
    `limit` bytes or something that is not a regular file, InfraError.
    """

    exit_status: int
    log: Path
    fetch: Callable[[str, int], bytes | None]


class Grader(Protocol):
    """One per harness, in graders/: a function from a task to the plan of its runs. Raises UsageError."""

    def __call__(self, task: Task) -> Plan: ...
