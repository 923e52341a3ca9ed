"""What a run does with every task: the agent, its budget, what it is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError, UsageError
from taskgate.harness.base.names import folder_name
from taskgate.harness.gate.gate import Gate
from taskgate.harness.sandbox.isolation.endpoint import Endpoint
from taskgate.harness.tasks.task import Agent, Budget, Task

DEFAULT_BUDGET = Budget(seconds=3600.0)
# An agent's exit status that says: not my fault, try again (sysexits.h: a temporary failure).
TEMPORARY = 75


@dataclass(frozen=True, slots=True)
class RunSpec:
    """`agent` replaces the tasks' own; `budget` holds where a task says nothing. `secrets` (names and values) reach the
    agent's environment and nothing else. `inputs` is a folder of this host with a folder a task. `driver` is an argv on
    this host that works on a task through a server agent, in place of one POST."""

    agent: Agent | None = None
    budget: Budget = DEFAULT_BUDGET
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    inputs: Path | None = None
    driver: tuple[str, ...] | None = None
    retries: int = 2

    def agent_of(self, task: Task) -> Agent:
        """The agent that works on `task`. Raises UsageError where there is none that can be run."""
        agent = self.agent or task.agent
        if agent is None or not (agent.run or agent.server or agent.module):
            raise UsageError(
                "no agent that can be run: give --agent, or `run`, `server` or `module` in the manifest's `agent`",
                field=task.id,
            )
        if self.driver and not agent.server:
            raise UsageError(f"a driver needs a server, and the agent of {task.id} is none", field="--driver")
        return agent

    def budget_of(self, task: Task) -> Budget:
        """The task's own budget, filled up from the run's."""
        return Budget(
            self.budget.seconds if task.budget.seconds is None else task.budget.seconds,
            self.budget.calls if task.budget.calls is None else task.budget.calls,
        )

    def inputs_of(self, task: Task) -> Path | None:
        """The folder that the agent is given to read."""
        folder = self.inputs / folder_name(task.id) if self.inputs else None
        return folder if folder and folder.is_dir() else None

    def fingerprint(self, task: Task, judged: str) -> str:
        """A short hash of what bears on a task's result besides its image; `judged`: what its verdict depends on."""
        seen = [
            judged,
            asdict(self.agent_of(task)),
            asdict(self.budget_of(task)),
            task.submission,
            sorted(self.env.items()),
            sorted(self.secrets),
            [self.endpoint.url, sorted(self.endpoint.headers)] if self.endpoint else None,
            self.driver,
            _contents(folder) if (folder := self.inputs_of(task)) else None,
        ]
        return hashlib.sha256(json.dumps(seen, default=str).encode()).hexdigest()[:16]


def settings(spec: RunSpec, tasks: Iterable[Task], gate: Gate) -> dict[str, str]:
    """`RunSpec.fingerprint` of each task, as far as the engine answers. Raises UsageError."""
    found = {}
    for task in tasks:
        try:
            found[task.id] = spec.fingerprint(task, gate.fingerprint(task))
        except (EngineUnavailable, EngineTimeout):
            break
        except InfraError:
            # A runtime that can't be had is told of with its task.
            continue
    return found


def _contents(folder: Path) -> str:
    """A hash of what a task is given to read."""
    total = hashlib.sha256()
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    data = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{path.relative_to(folder)} {data}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UsageError(f"{error.filename} can't be read: {error.strerror}", field="--inputs") from error
    return total.hexdigest()
