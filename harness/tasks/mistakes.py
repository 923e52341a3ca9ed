"""What is wrong with a manifest: every mistake with its line, its field and an example of the right form."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import pydantic
import yaml

from taskgate.harness.base import escape
from taskgate.harness.base.errors import ManifestError
from taskgate.harness.base.lists import and_more
from taskgate.harness.tasks.task import Task
from taskgate.harness.tasks.values import INVALID
from taskgate.harness.tasks.yaml_tree import Node

SHOWN = 20
PROBLEMS = {
    "missing": "is missing",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "dataclass_type": "must be a mapping",
}
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class Mistakes:
    """Collects them, up to a number that a person would read; counts the others."""

    def __init__(self) -> None:
        self._shown: list[ManifestError] = []
        self._more = 0

    def add(self, error: ManifestError) -> None:
        if len(self._shown) < SHOWN:
            self._shown.append(error)
        else:
            self._more += 1

    def add_invalid(
        self, error: pydantic.ValidationError, node: Node, where: str, file: str, *, under: Sequence[str] = ()
    ) -> None:
        """Add what pydantic found in `node`, which is at `where` in the file and holds the field `under` of a task."""
        if len(self._shown) < SHOWN:
            for mistake in _translated(error, node, where, file, under):
                self.add(mistake)
        else:
            self._more += error.error_count()

    def check(self) -> None:
        """Raises ManifestError if there is any: of the first one's file, line and field, with the text of all."""
        if not self._shown:
            return
        first = self._shown[0]
        if len(self._shown) == 1:
            raise first
        others = [escape.line(str(error), 500) for error in self._shown[1:]]
        if self._more:
            others.append(and_more(self._more, 0))
        raise ManifestError(first.problem, file=first.file, line=first.line, field=first.field, others=others)


def _translated(
    error: pydantic.ValidationError, node: Node, where: str, file: str, under: Sequence[str]
) -> Iterator[ManifestError]:
    """What pydantic found, in the manifest's words and lines."""
    for detail in error.errors(include_url=False, include_input=False):
        place = [part for part in detail["loc"] if part != "[key]"]
        context = detail.get("ctx") or {}
        if detail["type"] == INVALID and context.get("at"):
            place.append(context["at"])
        if detail["type"] in UNKNOWN:
            problem = unknown_field(str(place[-1]), _names_at([*under, *place[:-1]]))
        else:
            problem = PROBLEMS.get(detail["type"], detail["msg"]) + _example([*under, *place])
        yield ManifestError(problem, file=file, line=_line(node, place), field=_joined(where, place) or None)


def unknown_field(name: str, known: Sequence[str]) -> str:
    """The message for a field that does not exist."""
    near = difflib.get_close_matches(name, known, 1)
    return "unknown field" + (f"; did you mean {near[0]}?" if near else f"; the fields here are {', '.join(known)}")


def _names_at(place: Sequence[int | str]) -> list[str]:
    """The fields of the mapping at this place of a task."""
    hints = _task_hints()
    for part in place:
        hints = _hints_of(hints.get(str(part)))
    return list(hints)


def _example(place: Sequence[int | str]) -> str:
    """How the field at this place is written, as far as the model shows it."""
    hints, shown = _task_hints(), ""
    for part in place:
        if part not in hints:
            break
        if examples := _examples(hints[part]):
            shown = f" (for example, `{part}: {_written(examples[0])}`)"
        hints = _hints_of(hints[part])
    return shown


@cache
def _task_hints() -> dict[Any, Any]:
    return _hints_of(Task)


def _hints_of(kind: Any) -> dict[Any, Any]:
    """The fields of a dataclass, or of the one in an optional or annotated type, or in a mapping's values."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {known.name: hints[known.name] for known in fields(kind)}
    return next(filter(None, map(_hints_of, get_args(kind))), {})


def _examples(hint: Any) -> list[Any]:
    return next((known.examples for known in getattr(hint, "__metadata__", ()) if getattr(known, "examples", None)), [])


def _written(value: Any) -> str:
    """A value as YAML has it, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.partition("\n")[0]


def _line(node: Node, place: Sequence[int | str]) -> int:
    """The line of the deepest node on the way to a place."""
    for part in place:
        value = node.value
        if isinstance(value, dict) and part in value:
            node = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            node = value[part]
        else:
            break
    return node.line


def _joined(where: str, place: Sequence[int | str]) -> str:
    text = where
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[:80]}" if text else part[:80]
    return text
