"""A task: one line of the manifest, with the defaults filled in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taskgate.harness.runtime.spec import Runtime


@dataclass(frozen=True, slots=True)
class Agent:
    """What agent_start proves: exactly one of `module` (imported) and `command` (run, argv) is set."""

    module: str | None = None
    command: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Require:
    """What the check `required` looks for. Relative `files` are taken from the work directory."""

    commands: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a benchmark.

    `timeout` is in seconds, for each check. `checks` maps a check's name to `fail`, `warn` or `off`.
    `workdir` and `repo_path` are absolute POSIX paths; `repo_path` None means that there is no repository.
    """

    id: str
    image: str
    repo_path: str | None = "/workspace"
    workdir: str | None = None
    base_commit: str | None = None
    platform: str = "linux/amd64"
    user: str | None = None
    pull: str = "missing"
    timeout: float = 30.0
    agent: Agent | None = None
    python: str | None = ">=3.9"
    runtime: Runtime | None = None
    network: str = "bridge"
    require: Require = field(default_factory=Require)
    checks: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_dir(self) -> str:
        """Where the agent starts: `workdir`, else the repository, else `/`."""
        return self.workdir or self.repo_path or "/"

    def settings(self) -> dict[str, Any]:
        """All that bears on the verdict, but for the runtime, whose digest says more than where it comes from."""
        return {k: v for k, v in asdict(self).items() if k not in ("id", "pull", "runtime")}

    def fingerprint(self, *more: str) -> str:
        """A short hash of `settings()` and of `more` (check versions, the runtime); equal means: judged alike."""
        text = json.dumps([self.settings(), *more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
