"""Where an agent leaves its files and finds others, in its container."""

from __future__ import annotations

import posixpath
import secrets
from dataclasses import asdict, dataclass

from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Folders:
    """One attempt's: `given` is None where there is nothing to read, `submission` where the task asks for none.

    What an image brings, such as one that was made from the container of an earlier attempt, must not count as the
    agent's: their names can't be known before.
    """

    out: str
    given: str | None
    submission: str | None

    @classmethod
    def fresh(cls, task: Task, spec: RunSpec) -> Folders:
        # Directly below the root, where no image has anything.
        word = secrets.token_hex(8)
        out = f"/.taskgate-out-{word}"
        return cls(
            out,
            f"/.taskgate-in-{word}" if spec.inputs_of(task) else None,
            posixpath.join(out, task.submission) if task.submission else None,
        )

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)
