"""Tasks as a manifest: the inverse of manifest.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from taskgate.harness.tasks.model import TASK_ONLY, VERSION, defaults_of
from taskgate.harness.tasks.task import Task

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def dump(tasks: list[Task]) -> str:
    """A YAML manifest that loads as `tasks`. What all of them share is in the defaults."""
    bare = Task(id="", image="")
    rows = [_row(task, bare) for task in tasks]
    shared = {
        name: value
        for name, value in (rows[0].items() if rows else ())
        if name not in TASK_ONLY and all(row.get(name, _MISSING) == value for row in rows)
    }
    document = {
        "version": int(VERSION),
        **({"defaults": shared} if shared else {}),
        "tasks": [{name: value for name, value in row.items() if name not in shared} for row in rows],
    }
    text: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


_MISSING = object()


def _row(task: Task, bare: Task) -> dict[str, Any]:
    """A task's fields as the manifest has them, without those that hold their default."""
    row: dict[str, Any] = {}
    for field in dataclasses.fields(Task):
        value = getattr(task, field.name)
        if value != getattr(bare, field.name):
            row[field.name] = _plain(value)
    return row


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        defaults = defaults_of(type(value))
        return {name: _plain(inner) for name, inner in known.items() if inner != defaults.get(name, _MISSING)}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value
