"""The manifest's `mcp_servers`: tools that a task offers to its agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, WithJsonSchema

from taskgate.harness.tasks import values
from taskgate.harness.tasks.values import Form, invalid, present

TRANSPORTS = ("stdio", "sse", "streamable-http")
Headers = Annotated[
    dict[Annotated[str, Form(values.text)], Annotated[str, Form(partial(values.text, empty=True))]],
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server of the Model Context Protocol: an HTTP one at `url`, or for `stdio` a program that the agent starts."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Annotated[values.Text, Field(description="What the agent calls it.", examples=["search"])]
    transport: Annotated[
        Annotated[str, Form(values.one_of(*TRANSPORTS), {"enum": list(TRANSPORTS)})],
        Field(description="How it is reached.", examples=["sse"]),
    ] = "sse"
    url: Annotated[values.Text | None, Field(description="Of an HTTP server.", examples=["http://tools:8080/sse"])] = (
        None
    )
    command: Annotated[values.Text | None, Field(description="The program of a stdio server.", examples=["npx"])] = None
    args: Annotated[tuple[values.Text, ...], Field(description="Its arguments.", examples=[["-y", "server"]])] = ()
    headers: Annotated[
        Headers, Field(description="Headers for an HTTP server.", examples=[{"X-Team": "evaluation"}])
    ] = field(default_factory=dict)


def _check(given: set[str], server: McpServer) -> None:
    if server.transport == "stdio" and server.command is None:
        raise invalid("is missing, which a stdio server needs", at="command")
    if server.transport != "stdio" and server.url is None:
        raise invalid(f"is missing, which a server of {server.transport} needs", at="url")


def _schema() -> dict[str, Any]:
    stdio = {"required": ["transport"], "properties": {"transport": {"const": "stdio"}}}
    return {"allOf": [{"if": stdio, "then": present("command"), "else": present("url")}]}


McpServers = Annotated[tuple[Annotated[McpServer, values.Part(_check, _schema())], ...], Field()]
