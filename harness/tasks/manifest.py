"""The manifest: a document (YAML) or one task a line (JSON Lines), read into tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic

from taskgate.harness.base.errors import ManifestError
from taskgate.harness.tasks import model, yaml_tree
from taskgate.harness.tasks.importers.importer import Row
from taskgate.harness.tasks.mistakes import Mistakes, unknown_field
from taskgate.harness.tasks.model import TASK_ONLY, VERSION
from taskgate.harness.tasks.task import Agent, Task
from taskgate.harness.tasks.values import MAX_NAME, Plain
from taskgate.harness.tasks.yaml_tree import Node

LINES = (".jsonl", ".ndjson")


def load(path: str | Path, checks: frozenset[str] | None = None) -> list[Task]:
    """All tasks of a manifest, in its order. `checks`: the names of the checks; without them, any will do.

    Raises ManifestError with file, line and field of the first mistake, and the text of all.
    """
    path = Path(path)
    data = yaml_tree.read(path)
    builder = _Builder(str(path), checks)
    if path.suffix in LINES:
        builder.lines(data)
    else:
        builder.document(yaml_tree.parse_yaml(data, str(path)))
    return builder.result()


def from_rows(rows: Iterable[Row], *, defaults: Path | None = None, checks: frozenset[str] | None = None) -> list[Task]:
    """The rows of an importer as tasks, by the rules of a manifest. `defaults`: a file with a mapping as the manifest's
    `defaults`, for what the rows don't set. Raises ManifestError."""
    builder = _Builder("", checks)
    if defaults is not None:
        builder.file = str(defaults)
        builder.defaults(yaml_tree.parse_yaml(yaml_tree.read(defaults), str(defaults)))
    for row in rows:
        builder.file = row.file
        builder.task(yaml_tree.of({**builder.undecided(row.fallback), **row.fields}, row.line), "")
    return builder.result()


def ignores_unsupported(path: Path) -> bool:
    """Does this file of defaults say so? What is wrong with the file is for `from_rows` to tell."""
    try:
        node = yaml_tree.parse_yaml(yaml_tree.read(path), str(path))
    except ManifestError:
        return False
    value = node.value.get("ignore_unsupported") if isinstance(node.value, dict) else None
    return value is not None and value.plain and value.value == "true"


def load_agent(path: Path) -> Agent:
    """An agent from a file of its own: a mapping as the manifest's `agent`. Raises ManifestError."""
    node = yaml_tree.parse_yaml(yaml_tree.read(path), str(path))
    if node.is_null:
        raise ManifestError("is empty", file=str(path), field="agent")
    mistakes = Mistakes()
    try:
        agent: Agent = model.agent_field().validate_python(_raw(node), context={"folder": path.parent})
        return agent
    except pydantic.ValidationError as error:
        mistakes.add_invalid(error, node, "agent", str(path), under=("agent",))
    mistakes.check()
    raise AssertionError


def schema() -> dict[str, Any]:
    """The JSON Schema of the YAML form (draft 2020-12), as it is shipped for editors."""
    text = resources.files("taskgate.harness.tasks").joinpath("manifest.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def id_of(image: str) -> str:
    """The id of a task that sets none: `demo/one:1` is `demo__one-1`."""
    return image.replace("/", "__").replace(":", "-").replace("@", "-")


class _Builder:
    """Builds tasks from nodes, one document or one set of rows at a time."""

    def __init__(self, file: str, checks: frozenset[str] | None = None) -> None:
        self.file, self._checks = file, checks
        # All of them, so that tasks share the empty mappings.
        self._defaults = model.defaults_of(Task)
        # The same before validation, which a task's own mappings are merged with.
        self._raw_defaults: dict[str, Any] = {}
        self._tasks: list[Task] = []
        self._seen: dict[str, int] = {}
        self._shared: dict[Any, Any] = {}
        self._mistakes = Mistakes()
        self._fields = model.task_fields().validator
        self._context: tuple[str | None, dict[str, Any]] = (None, {})

    def result(self) -> list[Task]:
        """The tasks. Raises ManifestError."""
        self._mistakes.check()
        return self._tasks

    def document(self, root: Node) -> None:
        """A whole manifest."""
        top = self._top(root, ("version", "defaults", "tasks"))
        if "tasks" not in top:
            self._fail("is missing (for example, `tasks: [{id: one, image: demo/one:1}]`)", root, "tasks")
        elif not isinstance(top["tasks"].value, list):
            self._fail("must be a list", top["tasks"], "tasks")
        else:
            for number, node in enumerate(top["tasks"].value):
                self.task(node, f"tasks[{number}]")

    def lines(self, data: bytes) -> None:
        """A task a line; the first line may be the version and the defaults."""
        first = True
        for number, line in yaml_tree.lines(data):
            try:
                node = yaml_tree.parse_json_line(line, number, self.file)
            except ManifestError as error:
                self._mistakes.add(error)
                continue
            if first and isinstance(node.value, dict) and "version" in node.value and "image" not in node.value:
                self._top(node, ("version", "defaults"))
            else:
                self.task(node, "")
            first = False

    def _top(self, root: Node, known: Sequence[str]) -> dict[str, Node]:
        if not isinstance(root.value, dict):
            raise ManifestError("must be a mapping", file=self.file, line=root.line)
        top: dict[str, Node] = root.value
        for name, value in top.items():
            if name not in known:
                self._fail(unknown_field(name, known), value, name[:80])
        version = top.get("version")
        if version is None:
            self._fail("is missing (write `version: 1`)", root, "version")
        elif not version.plain or version.value != VERSION:
            self._fail(f"must be {VERSION}", version, "version")
        if "defaults" in top and not top["defaults"].is_null:
            self.defaults(top["defaults"])
        return top

    def defaults(self, node: Node) -> None:
        """What holds for every task that sets nothing else."""
        raw = _raw(node)
        if isinstance(raw, dict):
            for name in [name for name in TASK_ONLY if name in raw]:
                self._fail("belongs in a task, not in defaults", node.value[name], f"defaults.{name}")
                del raw[name]
        try:
            self._defaults |= model.default_fields().validator.validate_python(raw, context=self._known())
            self._raw_defaults = raw
        except pydantic.ValidationError as error:
            self._mistakes.add_invalid(error, node, "defaults", self.file)

    def undecided(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Those fields that the defaults don't set."""
        return {name: value for name, value in fields.items() if name not in self._raw_defaults}

    def task(self, node: Node, where: str) -> None:
        """Add a task, or what is wrong with it."""
        raw = _raw(node)
        if isinstance(raw, str):
            raw, node = {"image": raw}, Node({"image": node}, node.line)
        if isinstance(raw, dict):
            raw = model.merged(self._raw_defaults, raw)
        try:
            fields: dict[str, Any] = self._fields.validate_python(raw, context=self._known())
        except pydantic.ValidationError as error:
            self._mistakes.add_invalid(error, node, where, self.file)
            return
        if "id" not in fields and not self._derive_id(fields, node, where):
            return
        task_id = fields["id"]
        if task_id in self._seen:
            problem = f"duplicate id {task_id!r}, already used on line {self._seen[task_id]}"
            self._fail(problem, node.value.get("id", node), _join(where, "id"))
            return
        self._seen[task_id] = node.line
        self._tasks.append(Task(**{**self._defaults, **self._interned(fields)}))

    def _derive_id(self, fields: dict[str, Any], node: Node, where: str) -> bool:
        """Set the id from the image's name, which may be longer than an id and hold what an id may not."""
        fields["id"] = id_of(fields["image"])[:MAX_NAME]
        try:
            self._fields.validate_python({"id": fields["id"], "image": "x"})
        except pydantic.ValidationError as error:
            problem = f"as the task's id {error.errors()[0]['msg']}; set `id` as well"
            self._fail(problem, node.value["image"], _join(where, "image"))
            return False
        return True

    def _interned(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The same with one object for equal mappings."""
        for name in model.SHARED:
            if (value := fields.get(name)) is not None:
                key = (name, tuple(sorted(value.items())) if isinstance(value, dict) else value)
                fields[name] = self._shared.setdefault(key, value)
        return fields

    def _known(self) -> dict[str, Any]:
        """What validation depends on beside the value."""
        if self._context[0] != self.file:
            self._context = (self.file, {"checks": self._checks, "folder": Path(self.file).parent})
        return self._context[1]

    def _fail(self, problem: str, at: Node, field: str) -> None:
        self._mistakes.add(ManifestError(problem, file=self.file, line=at.line, field=field))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _raw(node: Node) -> Any:
    """A node as pydantic is given it: None, text (`Plain` where it was not quoted), lists and mappings."""
    value = node.value
    if isinstance(value, dict):
        return {name: _raw(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_raw(inner) for inner in value]
    if not node.plain:
        return value
    return None if node.is_null else Plain(value)
