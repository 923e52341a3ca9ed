"""A task: one line of the manifest, with the defaults filled in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.tasks.runtime_spec import Runtime

# The name of an environment variable.
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


# no-new: setuid programs such as sudo gain nothing; default: as the engine starts containers.
PRIVILEGES = ("no-new", "default")


@dataclass(frozen=True, slots=True)
class Agent:
    """What agent_start proves, and what a run starts.

    At most one of `module` (imported), `command` (an argv, run) and `server` (an argv that serves HTTP on `port`, ready
    once `health` answers, given its task by a POST to `post`) is set. `run` is the argv that works on a task, whose id
    is added at the end; without it, a module is run as `python -m`. `probe` is an argv, such as `agent_run --version`,
    that ends with status 0 where the agent can start.
    """

    module: str | None = None
    command: tuple[str, ...] | None = None
    server: tuple[str, ...] | None = None
    port: int = 8000
    health: str = "/health"
    post: str = "/run"
    run: tuple[str, ...] | None = None
    probe: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take: processors, bytes of `memory` and of `disk` (None: no limit), processes."""

    cpus: float | None = None
    memory: int = 4 << 30
    pids: int = 1024
    disk: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent may spend on a task: seconds of wall-clock time, calls of its model. None: no limit."""

    seconds: float | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Require:
    """What the check `required` looks for. Relative `files` are taken from the work directory."""

    commands: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


# What is not judged by: how an agent spends its time, and the runtime, whose digest says more than its origin.
UNJUDGED = ("id", "pull", "runtime", "budget", "submission")


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a benchmark.

    `timeout` is in seconds, for each check. `checks` maps a check's name to `fail`, `warn` or `off`.
    `workdir` and `repo_path` are absolute POSIX paths; `repo_path` None means that there is no repository.
    `submission` is a file that the agent must leave: an absolute path, or one below its output folder.
    HEAD may be up to `setup_commits` commits ahead of `base_commit`. `python` is a version specifier, or the absolute
    path of the agent's interpreter. `shell` is an argv to which a command is added as one argument, as in
    `(bash, -lc)`: the agent runs through it. `privileges` is `no-new` or `default`, see PRIVILEGES.
    """

    id: str
    image: str
    repo_path: str | None = "/workspace"
    workdir: str | None = None
    base_commit: str | None = None
    setup_commits: int = 0
    platform: str = "linux/amd64"
    user: str | None = None
    pull: str = "missing"
    timeout: float = 30.0
    agent: Agent | None = None
    python: str | None = ">=3.9"
    shell: tuple[str, ...] | None = None
    privileges: str = "no-new"
    runtime: Runtime | None = None
    network: str = "bridge"
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    budget: Budget = Budget()
    submission: str | None = None
    require: Require = field(default_factory=Require)
    checks: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_dir(self) -> str:
        """Where the agent starts: `workdir`, else the repository, else `/`."""
        return self.workdir or self.repo_path or "/"

    @property
    def python_path(self) -> str | None:
        """The agent's interpreter, where `python` names one by its path."""
        return self.python if self.python and self.python.startswith("/") else None

    @property
    def request(self) -> ImageRequest:
        """The image as an engine or a registry is asked for it."""
        return ImageRequest(self.image, self.platform, self.pull)

    def settings(self) -> dict[str, Any]:
        """All that bears on the verdict."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in UNJUDGED}

    def fingerprint(self, *more: str) -> str:
        """A short hash of `settings()` and of `more` (check versions, the runtime); equal means: judged alike."""
        text = json.dumps([self.settings(), *more], sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> dict[str, Any]:
    """A part of a task as JSON has it."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
