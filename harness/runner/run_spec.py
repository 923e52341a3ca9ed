"""What a run does with every task: the agent, its budget, what it is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError, UsageError
from taskgate.harness.gate.gate import Gate
from taskgate.harness.runner.inputs import Inputs
from taskgate.harness.sandbox import agent_command
from taskgate.harness.sandbox.isolation.endpoint import Endpoint
from taskgate.harness.tasks.task import Agent, Budget, Task

DEFAULT_BUDGET = Budget(seconds=3600.0)
# An agent's exit status for "not my fault, try again" (sysexits.h: a temporary failure).
TEMPORARY = 75
COLLECT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class RunSpec:
    """`agent` replaces the tasks' own; `budget` holds where a task says nothing. `secrets` (names and values) reach the
    agent's environment and nothing else. `inputs` is a folder of this host with a folder a task. `driver` is an argv on
    this host that works on a task through a server agent, in place of one POST. The files of an agent that has ended
    are fetched for up to `collect_seconds`."""

    agent: Agent | None = None
    budget: Budget = DEFAULT_BUDGET
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    inputs: Path | None = None
    driver: tuple[str, ...] | None = None
    retries: int = 2
    collect_seconds: float = COLLECT_SECONDS

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

    def argv_of(self, task: Task) -> tuple[str, ...]:
        """The argv that works on `task` in its container, or that serves there. Raises UsageError."""
        agent = self.agent_of(task)
        if agent.server:
            return agent.server
        return (*agent_command.argv_of(agent, task), task.id)

    def budget_of(self, task: Task) -> Budget:
        """The task's own budget, filled up from the run's."""
        return Budget(
            self.budget.seconds if task.budget.seconds is None else task.budget.seconds,
            self.budget.calls if task.budget.calls is None else task.budget.calls,
        )

    def inputs_of(self, task: Task) -> Path | None:
        """The folder that the agent is given to read. Raises UsageError."""
        return Inputs(self.inputs).of(task.id) if self.inputs else None

    def fingerprint(self, task: Task, runtime: str | None) -> str:
        """A short hash of all that reaches the agent besides the image; `runtime` is the digest of what is brought
        into it. Nothing of taskgate itself or of its checks is part of it. Raises UsageError."""
        agent, folder = self.agent_of(task), self.inputs_of(task)
        reached: dict[str, Any] = {
            "argv": self.argv_of(task),
            "server": [agent.port, agent.health, agent.post] if agent.server else None,
            "driver": self.driver,
            "runtime": runtime,
            "budget": asdict(self.budget_of(task)),
            "limits": asdict(task.limits),
            "network": task.network,
            "platform": task.platform,
            "user": task.user,
            "shell": task.shell,
            "privileges": task.privileges,
            "workdir": [task.workdir, task.repo_path, task.base_commit],
            "env": [sorted(task.env.items()), sorted(self.env.items()), sorted(self.secrets)],
            "submission": task.submission,
            "endpoint": [self.endpoint.url, sorted(self.endpoint.headers)] if self.endpoint else None,
            "inputs": Inputs(self.inputs).digest(folder) if self.inputs and folder else None,
        }
        if container := task.container_settings():
            reached["container"] = container
        return hashlib.sha256(json.dumps(reached, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint(spec: RunSpec, task: Task, gate: Gate) -> str:
    """`RunSpec.fingerprint` with the runtime that the gate brings into the image. Raises UsageError, InfraError."""
    delivery = gate.delivery(task)
    return spec.fingerprint(task, delivery.bundle.digest if delivery else None)


def settings(spec: RunSpec, tasks: Iterable[Task], gate: Gate) -> dict[str, str]:
    """The fingerprint of each task by its id, as far as the engine answers. Raises UsageError."""
    fingerprints = {}
    for task in tasks:
        try:
            fingerprints[task.id] = fingerprint(spec, task, gate)
        except (EngineUnavailable, EngineTimeout):
            break
        except InfraError:
            # A runtime that can't be brought is reported with its task.
            continue
    return fingerprints
