"""The manifest's `agent`: what must start, and what works on a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from taskgate.harness.tasks import values
from taskgate.harness.tasks.values import Part, invalid, present

STARTS = ("module", "command", "server")
SERVER_ONLY = ("port", "health", "post")


@dataclass(frozen=True, slots=True)
class Agent:
    """What agent_start proves, and what a run starts.

    At most one of `module` (imported), `command` (an argv, run) and `server` (an argv that serves HTTP on `port`, ready
    once `health` answers, given its task by a POST to `post`) is set. `run` is the argv that works on a task, whose id
    is added at the end; without it, a module is run as `python -m`. `probe` is an argv, such as `agent_run --version`,
    that ends with status 0 where the agent can start.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    module: Annotated[values.ModuleName | None, Field(description="A dotted module name.", examples=["agent"])] = None
    command: Annotated[
        values.Argv | None,
        Field(
            description="A program and its arguments, or one text for /bin/sh -c.",
            examples=[["agent", "--version"]],
        ),
    ] = None
    server: Annotated[
        values.Argv | None,
        Field(
            description="A program that serves HTTP until it is ended.",
            examples=[["python3", "-m", "agent", "--serve"]],
        ),
    ] = None
    port: Annotated[
        values.Port,
        Field(
            description="The port that the server listens on, on the container's loopback interface or on all.",
            examples=[8000],
        ),
    ] = 8000
    health: Annotated[
        values.UrlPath,
        Field(
            description="Answers with a status of 200 to 299 once the server is ready.",
            examples=["/health"],
        ),
    ] = "/health"
    post: Annotated[
        values.UrlPath,
        Field(
            description="Where a run posts the task; the answer comes when the agent is done.",
            examples=["/run"],
        ),
    ] = "/run"
    run: Annotated[
        values.Words | None,
        Field(
            description="The program that works on a task, whose id is added as the last argument; one text is split "
            "into words.",
            examples=["agent_run --fast"],
        ),
    ] = None
    probe: Annotated[
        values.Argv | None,
        Field(
            description="A command that must succeed where the agent can start; one text is for /bin/sh -c.",
            examples=[["agent_run", "--version"]],
        ),
    ] = None


def _check(given: set[str], agent: Agent) -> None:
    """There is exactly one way to start it."""
    if len(given.intersection(STARTS)) != 1 and given not in ({"run"}, {"run", "probe"}):
        raise invalid("takes exactly one of module, command and server, or run alone")
    if agent.server is None and (extra := [name for name in SERVER_ONLY if name in given]):
        raise invalid("is for a server only", at=extra[0])
    if agent.server and agent.run:
        raise invalid("is not for a server, which gets its task by a POST", at="run")


def _schema() -> dict[str, Any]:
    """The same in JSON Schema."""
    unset = {name: {"type": "null"} for name in (*STARTS, *SERVER_ONLY)}
    alone = {"required": ["run"], "properties": {**unset, **present("run")["properties"]}}
    return {
        "oneOf": [*map(present, STARTS), alone],
        "allOf": [
            *({"if": present(name), "then": present("server")} for name in SERVER_ONLY),
            {"not": {"allOf": [present("server"), present("run")]}},
        ],
    }


AgentField = Annotated[Agent, Part(_check, _schema())]
