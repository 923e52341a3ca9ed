"""The manifest's JSON Schema, made from the model: `python -m taskgate.harness.tasks.schema` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from taskgate.harness.tasks import model
from taskgate.harness.tasks.agent_spec import Agent
from taskgate.harness.tasks.model import TASK_ONLY, VERSION
from taskgate.harness.tasks.proof_spec import Proof
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PARTS = {"agent": Agent, "proof": Proof, "runtime": Runtime}


def build() -> dict[str, Any]:
    """The schema of the YAML form."""
    described = model.task_fields().json_schema(ref_template="{model}")
    fields = {name: _inlined(known, described.get("$defs", {})) for name, known in described["properties"].items()}
    _add_defaults(fields, model.defaults_of(Task))
    settings = {name: known for name, known in fields.items() if name not in TASK_ONLY}
    return {
        "$schema": DRAFT,
        "title": "taskgate manifest",
        "description": "The task images of a benchmark, and what an agent needs in them.",
        "type": "object",
        "additionalProperties": False,
        "required": ["version", "tasks"],
        "properties": {
            "version": {"const": int(VERSION), "description": "The version of this format."},
            "defaults": {
                "description": "What holds for every task that sets nothing else.",
                "anyOf": [{"type": "null"}, {"$ref": "#/$defs/settings"}],
            },
            "tasks": {
                "type": "array",
                "description": "The tasks; a bare text is an image whose id is derived from its name.",
                "items": {"anyOf": [{"$ref": "#/$defs/image"}, {"$ref": "#/$defs/task"}]},
            },
        },
        "$defs": {
            "image": fields["image"],
            "settings": {"type": "object", "additionalProperties": False, "properties": settings},
            "task": {
                "type": "object",
                "additionalProperties": False,
                "required": ["image"],
                "properties": {
                    name: {"$ref": f"#/$defs/settings/properties/{name}"} if name in settings else known
                    for name, known in fields.items()
                },
            },
        },
    }


def text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(build(), indent=2) + "\n"


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema without references and titles, which differ between versions of pydantic."""
    if isinstance(schema, list):
        return [_inlined(inner, definitions) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    known = {**definitions[schema["$ref"]], **schema} if "$ref" in schema else schema
    # A property may be called `title`: then it is a mapping.
    return {
        name: _inlined(inner, definitions)
        for name, inner in known.items()
        if name != "$ref" and not (name == "title" and isinstance(inner, str))
    }


def _add_defaults(fields: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for name, default in defaults.items():
        part = PARTS.get(name, type(default) if is_dataclass(default) else None)
        fields[name]["default"] = {} if is_dataclass(default) else _plain(default)
        if part:
            for properties in _properties(fields[name]):
                _add_defaults(properties, model.defaults_of(part))


def _properties(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The properties of a mapping that may also be null."""
    choices = [schema, *schema.get("anyOf", ())]
    return [known["properties"] for known in choices if known.get("additionalProperties") is False]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    sys.stdout.write(text())
