"""A task: one line of the manifest, with the defaults filled in.

The dataclasses are the manifest's model: the loader, the JSON Schema and the reference come from their annotations. A
description says what a field is for; `examples` are values as they are written in YAML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, WithJsonSchema

from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.tasks import values
from taskgate.harness.tasks.agent_spec import Agent, AgentField
from taskgate.harness.tasks.agent_tools import McpServers
from taskgate.harness.tasks.proof_spec import Proof, ProofField
from taskgate.harness.tasks.runtime_spec import Runtime, RuntimeField
from taskgate.harness.tasks.service_spec import Env, Healthcheck, Services
from taskgate.harness.tasks.values import Form, Part

__all__ = ["Agent", "Budget", "Limits", "Proof", "Require", "Runtime", "Task"]

PULLS = ("missing", "always", "never")
LEVELS = ("fail", "warn", "off")
# no-new: setuid programs such as sudo gain nothing; default: as the engine starts containers.
PRIVILEGES = ("no-new", "default")
# Fields that have no bearing on a verdict: how an agent spends its time, and the runtime, whose digest says more.
UNJUDGED = ("id", "pull", "runtime", "budget", "submission", "proof", "artifacts", "ignore_unsupported")


# What a task's container has, and the state in which it starts.
CONTAINER = (
    *("checkout", "upload", "services", "mcp_servers", "skills_dir"),
    *("shm_size", "init", "gpus", "capabilities", "security_opt", "ulimits", "tmpfs"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take: processors, bytes of `memory` and of `disk` (None: no limit), processes."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    cpus: Annotated[values.Cpus | None, Field(description="Processors; null: no limit.", examples=[2])] = None
    memory: Annotated[values.Size, Field(description="Memory.", examples=["8g"])] = 4 << 30
    pids: Annotated[values.Count, Field(description="Processes and threads.", examples=[512])] = 1024
    disk: Annotated[values.Size | None, Field(description="What it may write; null: no limit.", examples=["20g"])] = (
        None
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent may spend on a task: seconds of wall-clock time, calls of its model. None: no limit."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    seconds: Annotated[values.LongSeconds | None, Field(description="Wall-clock time.", examples=[1800])] = None
    calls: Annotated[values.Count | None, Field(description="Calls of its model.", examples=[100])] = None


@dataclass(frozen=True, slots=True)
class Require:
    """What the check `required` looks for. Relative `files` are taken from the work directory."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    commands: Annotated[
        tuple[values.Text, ...], Field(description="Programs that must be on PATH.", examples=[["cargo"]])
    ] = ()
    files: Annotated[
        tuple[values.Text, ...], Field(description="Files that must exist.", examples=[["src/main.rs"]])
    ] = ()
    modules: Annotated[
        tuple[values.ModuleName, ...],
        Field(description="Python modules that must import.", examples=[["numpy"]]),
    ] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities of Linux that a container has beyond, or without, the engine's own set."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    add: Annotated[
        tuple[values.Capability, ...], Field(description="Added to the engine's set.", examples=[["SYS_PTRACE"]])
    ] = ()
    drop: Annotated[tuple[values.Capability, ...], Field(description="Taken from it.", examples=[["NET_RAW"]])] = ()


Ulimits = Annotated[
    dict[Annotated[str, Form(values.matching(values.VARIABLE, "name of a limit"))], values.Ulimit],
    Field(),
]
Checks = Annotated[
    dict[
        Annotated[str, values.ContextForm(values.check_name)],
        Annotated[str, Form(values.one_of(*LEVELS))],
    ],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"enum": list(LEVELS)},
            "propertyNames": {"pattern": r"^[A-Za-z_]\w*$"},
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a benchmark.

    `timeout` is in seconds, for each check. `checks` maps a check's name to `fail`, `warn` or `off`.
    `workdir` and `repo_path` are absolute POSIX paths; `repo_path` None means that there is no repository.
    `submission` is a file that the agent must leave: an absolute path, or one below its output folder.
    HEAD may be up to `setup_commits` commits ahead of `base_commit`. `python` is a version specifier, or the absolute
    path of the agent's interpreter. `shell` is an argv to which a command is added as one argument, as in
    `(bash, -lc)`: the agent runs through it. `privileges` is `no-new` or `default`, see PRIVILEGES.
    `checkout` is a git reference. `gpus` is a number or `all`, `ulimits` maps names to `SOFT:HARD`, `tmpfs` lists
    `PATH[:OPTIONS]`.
    """

    id: Annotated[
        values.TaskId,
        Field(
            description="The task's id, on one line; derived from the image's name if absent.",
            examples=["demo__one-1"],
        ),
    ]
    image: Annotated[values.ImageName, Field(description="The image's name.", examples=["demo/one:1"])]
    repo_path: Annotated[
        values.AbsolutePath | None,
        Field(
            description="The git repository that the agent works on; null: there is none.",
            examples=["/testbed"],
        ),
    ] = "/workspace"
    workdir: Annotated[
        values.AbsolutePath | None,
        Field(
            description="Where the agent starts; null: the image's WORKDIR, else repo_path, else /.",
            examples=["/app"],
        ),
    ] = None
    base_commit: Annotated[
        values.Commit | None, Field(description="The commit that HEAD must be.", examples=["1a2b3c4"])
    ] = None
    setup_commits: Annotated[
        values.FewCommits,
        Field(
            description="How many commits of the image's maker HEAD may be ahead of base_commit.",
            examples=[1],
        ),
    ] = 0
    checkout: Annotated[
        values.Ref | None,
        Field(
            description="A branch, tag or commit that is checked out in the container before anything else happens.",
            examples=["task-branch"],
        ),
    ] = None
    platform: Annotated[
        values.Platform,
        Field(
            description="The platform that the image must be of.",
            examples=["linux/amd64"],
        ),
    ] = "linux/amd64"
    user: Annotated[
        values.User | None,
        Field(
            description="The user that the agent runs as; null: the image's USER.",
            examples=["dev"],
        ),
    ] = None
    pull: Annotated[
        Annotated[str, Form(values.one_of(*PULLS), {"enum": list(PULLS)})],
        Field(description="When to pull the image.", examples=["missing"]),
    ] = "missing"
    timeout: Annotated[values.Seconds, Field(description="Seconds that each check may take.", examples=[30])] = 30.0
    agent: Annotated[
        AgentField | None,
        Field(
            description="What must start: a Python module that is imported, a command that is run, or a server; null: "
            "nothing.",
            examples=[{"module": "agent"}],
        ),
    ] = None
    python: Annotated[
        values.Specifier | None,
        Field(
            description="The Python versions that will do (PEP 440), or the absolute path of the agent's interpreter; "
            "null: none is needed.",
            examples=[">=3.9"],
        ),
    ] = ">=3.9"
    shell: Annotated[
        values.Words | None,
        Field(
            description="A shell to which each command is added as one argument; one text is split into words. The "
            "agent runs through it. null: the agent is started directly.",
            examples=[["bash", "-lc"]],
        ),
    ] = None
    privileges: Annotated[
        Annotated[str, Form(values.one_of(*PRIVILEGES), {"enum": list(PRIVILEGES)})],
        Field(
            description="no-new: setuid programs such as sudo gain nothing; default: as the engine starts containers.",
            examples=["no-new"],
        ),
    ] = "no-new"
    runtime: Annotated[
        RuntimeField | None,
        Field(
            description="Brings a Python, git and the agent into images that have none; null: brings nothing.",
            examples=[{"agent": "./agent"}],
        ),
    ] = None
    network: Annotated[
        values.Network,
        Field(
            description="The container's network: bridge, none, host, or the name of a network.",
            examples=["none"],
        ),
    ] = "bridge"
    env: Annotated[
        Env,
        Field(
            description="Environment variables of the agent. Secrets don't belong here: see `taskgate run --secret`.",
            examples=[{"TZ": "UTC"}],
        ),
    ] = field(default_factory=dict)
    limits: Annotated[
        Annotated[Limits, Part()],
        Field(description="What the container may take.", examples=[{"cpus": 2, "memory": "8g"}]),
    ] = Limits()
    budget: Annotated[
        Annotated[Budget, Part()],
        Field(
            description="What an agent may spend on a task; `taskgate run` has options of the same names.",
            examples=[{"seconds": 1800}],
        ),
    ] = Budget()
    shm_size: Annotated[
        values.Size | None, Field(description="Size of /dev/shm; null: the engine's own.", examples=["1g"])
    ] = None
    init: Annotated[values.Switch, Field(description="Run an init process that reaps orphans.", examples=[True])] = (
        False
    )
    gpus: Annotated[
        values.Gpus | None, Field(description="How many GPUs the container gets, or all.", examples=["all"])
    ] = None
    capabilities: Annotated[
        Annotated[Capabilities, Part()],
        Field(description="Capabilities of Linux.", examples=[{"add": ["SYS_PTRACE"]}]),
    ] = Capabilities()
    security_opt: Annotated[
        tuple[values.Text, ...],
        Field(description="Security options as the engine takes them.", examples=[["seccomp=unconfined"]]),
    ] = ()
    ulimits: Annotated[
        Ulimits, Field(description="Limits of processes: a number, or SOFT:HARD.", examples=[{"nofile": "1024:4096"}])
    ] = field(default_factory=dict)
    tmpfs: Annotated[
        tuple[values.Tmpfs, ...],
        Field(description="Paths that are in memory, as PATH[:OPTIONS].", examples=[["/run:size=64m"]]),
    ] = ()
    services: Annotated[
        Services,
        Field(
            description="Containers beside the task's, reachable under their names.",
            examples=[{"redis": {"image": "redis:7"}}],
        ),
    ] = field(default_factory=dict)
    healthcheck: Annotated[
        Annotated[Healthcheck, Part()] | None,
        Field(
            description="A command that must succeed in the task's container before the agent starts.",
            examples=[{"command": "test -e /ready"}],
        ),
    ] = None
    upload: Annotated[
        values.HostPath | None,
        Field(
            description="A folder of this host whose content is copied into the directory where the agent starts; "
            "relative to the manifest.",
            examples=["./environment"],
        ),
    ] = None
    mcp_servers: Annotated[
        McpServers,
        Field(
            description="Servers of the Model Context Protocol, for the agent.",
            examples=[[{"name": "search", "url": "http://search:8080/sse"}]],
        ),
    ] = ()
    skills_dir: Annotated[
        values.AbsolutePath | None,
        Field(description="A folder in the image with skills for the agent.", examples=["/skills"]),
    ] = None
    artifacts: Annotated[
        tuple[values.Text, ...],
        Field(description="Files and folders that a verifier looks at.", examples=[["/app/out"]]),
    ] = ()
    ignore_unsupported: Annotated[
        values.Switch,
        Field(
            description="Take a task of another format without what taskgate does not support.",
            examples=[True],
        ),
    ] = False
    submission: Annotated[
        values.Submission | None,
        Field(
            description="A file that the agent must leave: an absolute path, or one below $TASKGATE_OUT.",
            examples=["submission.tar.gz"],
        ),
    ] = None
    require: Annotated[
        Annotated[Require, Part()],
        Field(
            description="What must be there. Relative files are taken from the work directory.",
            examples=[{"commands": ["cargo"], "files": ["src/main.rs"]}],
        ),
    ] = field(default_factory=Require)
    checks: Annotated[
        Checks,
        Field(
            description="Checks by name: fail (warnings are failures too), warn (failures are warnings), off.",
            examples=[{"git_future": "fail", "tmp": "off"}],
        ),
    ] = field(default_factory=dict)

    proof: Annotated[
        ProofField | None,
        Field(
            description="How `taskgate prove` shows that the task can be solved; null: it is not proven.",
            examples=[{"solution": "solutions/one.patch", "test": "make test"}],
        ),
    ] = None

    def start_dir(self, image_workdir: str = "") -> str:
        """Where the agent starts: `workdir`, else the image's own WORKDIR, else the repository, else `/`.

        `image_workdir`: as an engine tells it. BuildKit writes `/` where a Dockerfile sets none, so that it says
        nothing.
        """
        own = image_workdir if image_workdir.startswith("/") and image_workdir.strip("/") else None
        return self.workdir or own or self.repo_path or "/"

    @property
    def python_path(self) -> str | None:
        """The agent's interpreter, where `python` names one by its path."""
        return self.python if self.python and self.python.startswith("/") else None

    @property
    def request(self) -> ImageRequest:
        """The image as an engine or a registry is asked for it."""
        return ImageRequest(self.image, self.platform, self.pull)

    def settings(self) -> dict[str, Any]:
        """All that bears on the verdict, without fields that hold their default.

        So a field that a later version adds changes the fingerprint of no task that doesn't use it.
        """
        known = ((name, getattr(self, name)) for name in _JUDGED)
        return {name: value for name, value in known if value != _JUDGED[name]}

    def container_settings(self) -> dict[str, Any]:
        """What beyond limits, network and environment makes the container, as JSON has it; without defaults."""
        text = json.dumps({name: value for name, value in self.settings().items() if name in CONTAINER}, default=_plain)
        known: dict[str, Any] = json.loads(text)
        return known

    def fingerprint(self, *more: str) -> str:
        """A short hash of `settings()` and of `more` (check versions, the runtime); equal means: judged alike."""
        text = json.dumps([self.settings(), *more], sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def default_of(known: Any) -> Any:
    """A dataclass field's default; MISSING where there is none."""
    return known.default_factory() if known.default_factory is not MISSING else known.default


_JUDGED: Mapping[str, Any] = {known.name: default_of(known) for known in fields(Task) if known.name not in UNJUDGED}


def _plain(value: Any) -> dict[str, Any]:
    """A part of a task as JSON has it."""
    return {known.name: getattr(value, known.name) for known in fields(value)}
