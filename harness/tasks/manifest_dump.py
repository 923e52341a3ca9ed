"""Tasks as a manifest: the inverse of harness/manifest.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from taskgate.harness.tasks.manifest import VERSION
from taskgate.harness.tasks.task import Task

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def dump(tasks: list[Task]) -> str:
    """A YAML manifest that loads as `tasks`. What most of them share stands in the defaults."""
    bare = Task(id="", image="")
    rows = [_row(task, bare) for task in tasks]
    shared = {
        name: value
        for name, value in (rows[0].items() if rows else ())
        # A mapping of checks is merged with the defaults', so it stays with its task.
        if name not in ("id", "image", "base_commit", "checks")
        and all(row.get(name, _MISSING) == value for row in rows)
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
    """A task's fields as the manifest has them, without those that say nothing new."""
    row: dict[str, Any] = {}
    for field in dataclasses.fields(Task):
        value = getattr(task, field.name)
        if value != getattr(bare, field.name):
            row[field.name] = _plain(value)
    return row


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        default = {field.name: field.default for field in dataclasses.fields(value)}
        told = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: _plain(one) for name, one in told.items() if one != default[name]}
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, dict) else value
