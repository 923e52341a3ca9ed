"""The fields of a task as pydantic validates them, and what the defaults and a task have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Required, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from taskgate.harness.tasks import task
from taskgate.harness.tasks.agent_spec import AgentField
from taskgate.harness.tasks.task import Task

VERSION = "1"
# Fields that can't be defaults.
TASK_ONLY = ("id", "image", "base_commit", "checkout")
# A task's mapping adds to that of the defaults.
MERGED = ("limits", "budget", "env", "checks", "require")
# Mappings that many tasks have alike: each is kept once.
SHARED = (*MERGED, "agent", "proof", "runtime", "capabilities")


@cache
def task_fields() -> TypeAdapter[dict[str, Any]]:
    """Validates those fields of a task that are given."""
    return _given(tuple(_hints()))


@cache
def default_fields() -> TypeAdapter[dict[str, Any]]:
    """Validates those of the manifest's defaults."""
    return _given(tuple(name for name in _hints() if name not in TASK_ONLY))


@cache
def agent_field() -> TypeAdapter[Any]:
    """Validates an agent that has a file of its own."""
    return TypeAdapter(AgentField)


def merged(defaults: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A task's fields before they are validated, with the defaults of those mappings that it sets in part."""
    for name in MERGED:
        if isinstance(own := given.get(name), dict) and isinstance(known := defaults.get(name), dict):
            given[name] = {**known, **own}
    return given


def defaults_of(kind: type) -> dict[str, Any]:
    """A dataclass's defaults by name."""
    values = {known.name: task.default_of(known) for known in fields(kind)}
    return {name: value for name, value in values.items() if value is not MISSING}


@cache
def _hints() -> dict[str, Any]:
    hints = get_type_hints(Task, include_extras=True)
    return {known.name: hints[known.name] for known in fields(Task)}


def _given(names: tuple[str, ...]) -> TypeAdapter[dict[str, Any]]:
    hints = {name: Required[hint] if name == "image" else hint for name, hint in _hints().items() if name in names}
    create: Any = TypedDict
    kind = create("Fields", hints, total=False)
    kind.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(kind)
