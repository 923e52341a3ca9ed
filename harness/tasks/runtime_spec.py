"""The manifest's `runtime`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from taskgate.harness.tasks import values
from taskgate.harness.tasks.values import Form, Part, invalid, present

BUILDER = "debian:bookworm-slim"
MODES = ("auto", "mount", "layer", "build", "present")
SOURCES = ("from_image", "directory", "tar")
OF_BUNDLE = ("requirements", "agent", "builder")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where the runtime comes from, and how it gets into a task's container.

    At most one of `from_image`, `directory` and `tar` is set. With none of them it is taskgate's own bundle, made in
    a container of the image `builder` from Debian's packages, `requirements` (a requirements.txt) and `agent` (a
    module, a package, or a project with a pyproject.toml). Paths of the host are absolute. `path` is where it stands
    in the task's container; of `from_image`, also where it is found. Mode `present`: the image has it there
    already.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Annotated[
        Annotated[str, Form(values.one_of(*MODES), {"enum": list(MODES)})],
        Field(
            description="How it gets in: a read-only volume, a layer of an image of its own, or a Dockerfile's build.",
            examples=["mount"],
        ),
    ] = "auto"
    requirements: Annotated[
        values.HostPath | None,
        Field(
            description="A requirements.txt for the agent, relative to the manifest.",
            examples=["requirements.txt"],
        ),
    ] = None
    agent: Annotated[
        values.HostPath | None,
        Field(
            description="The agent: a module, a package, or a project with a pyproject.toml, relative to the manifest.",
            examples=["./agent"],
        ),
    ] = None
    builder: Annotated[
        values.ImageName,
        Field(
            description="The Debian bookworm image in which the bundle is built.",
            examples=["debian:bookworm-slim"],
        ),
    ] = BUILDER
    from_image: Annotated[
        values.ImageName | None,
        Field(
            description="An image that has a runtime at `path`, instead of a bundle.",
            examples=["demo/runtime:1"],
        ),
    ] = None
    directory: Annotated[
        values.HostPath | None,
        Field(
            description="A folder of this host that is a runtime, relative to the manifest.",
            examples=["./runtime"],
        ),
    ] = None
    tar: Annotated[
        values.HostPath | None,
        Field(
            description="A tar of such a folder, relative to the manifest.",
            examples=["runtime.tar"],
        ),
    ] = None
    path: Annotated[
        values.Prefix | None,
        Field(
            description="Where it is in the task's container, and in from_image.",
            examples=["/opt/conda"],
        ),
    ] = None


def _check(given: set[str], runtime: Runtime) -> None:
    """It has one source, and only what belongs to it."""
    sources = [name for name in SOURCES if name in given]
    if len(sources) > 1:
        raise invalid(f"takes only one of {' and '.join(sources)}")
    if sources and (extra := [name for name in OF_BUNDLE if name in given]):
        raise invalid(f"{extra[0]} is for taskgate's own bundle, not for {sources[0]}")
    if sources == ["from_image"] and "path" not in given:
        raise invalid("is missing: where the runtime is in from_image", at="path")
    if runtime.mode == "present":
        if given != {"mode", "path"}:
            raise invalid("with mode present takes a path, and nothing else")
    elif not sources and "path" in given:
        raise invalid("path is for from_image, directory and tar; a bundle's path comes from its digest")


def _schema() -> dict[str, Any]:
    """The same in JSON Schema."""
    source = {"anyOf": [present(name) for name in SOURCES]}
    others = [name for name in Runtime.__dataclass_fields__ if name not in ("mode", "path")]
    is_present = {"required": ["mode"], "properties": {"mode": {"const": "present"}}}
    return {
        "allOf": [
            *({"not": {"allOf": [present(a), present(b)]}} for a, b in (SOURCES[:2], SOURCES[1:], SOURCES[::2])),
            {"if": source, "then": {"not": {"anyOf": [present(name) for name in OF_BUNDLE]}}},
            {"if": present("from_image"), "then": present("path")},
            {
                "if": is_present,
                "then": {"allOf": [present("path"), {"not": {"anyOf": [present(name) for name in others]}}]},
                "else": {"if": present("path"), "then": source},
            },
        ]
    }


RuntimeField = Annotated[Runtime, Part(_check, _schema())]
