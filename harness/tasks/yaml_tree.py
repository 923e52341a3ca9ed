"""A manifest's text as a tree that knows its lines: YAML or JSON Lines, hostile input included.

Scalars keep their text until a field's type is known, so that `base_commit: 0123456` or `1e10` stay what was
written and `tmp: off` is no boolean. Only events are taken from the YAML parser: nothing is constructed,
nothing recurses, and aliases are counted before anything is expanded.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from taskgate.harness.base.errors import ManifestError

MAX_BYTES = 1 << 30
# A parsed document takes many times its size; more goes into JSON Lines, a line at a time.
MAX_DOCUMENT = 128 << 20
MAX_LINE = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 3_000_000
MAX_INTEGER = 1 << 63
# A text, or what stands before a value but for the first; each byte is looked at once, also where a text has no end.
MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)
QUOTE = ord('"')
NULLS = frozenset(("", "~", "null", "Null", "NULL"))
CORE = "tag:yaml.org,2002:"

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """`value` is a str (scalar), a list of nodes, or a dict of nodes. `line` counts from 1."""

    value: Any
    line: int
    plain: bool = False
    size: int = 1

    @property
    def is_null(self) -> bool:
        return self.plain and self.value in NULLS


def read(path: Path, *, most: int = MAX_BYTES, regular: bool = False) -> bytes:
    """The file, of at most `most` bytes. `regular`: nobody named it, so it is no pipe. Raises ManifestError."""
    try:
        if path.is_dir():
            raise ManifestError("is a directory, not a manifest", file=str(path))
        if regular and not path.is_file():
            raise ManifestError("is not a regular file", file=str(path))
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise ManifestError(f"can't be read: {getattr(error, 'strerror', error)}", file=str(path)) from error
    if len(data) > most:
        raise ManifestError(f"is larger than {most >> 20} MiB", file=str(path))
    return data


def lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that aren't blank, with their numbers, one at a time."""
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        if line.strip():
            yield number, line


def parse_json(data: bytes) -> Any:
    """A JSON document of others, unless it holds more values than can be meant. Raises ValueError, RecursionError."""
    # Texts have commas, too: only where there are many it is worth to see which.
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_NODES:
        values = itertools.islice((mark for mark in MARK.finditer(data) if mark[0][0] != QUOTE), MAX_NODES + 1)
        if sum(1 for _ in values) > MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES:,} values")
    return json.loads(data)


def check(value: Any, file: str, line: int | None = None) -> Any:
    """Values that a parser of another format gave, as far as they can be worked with. Raises ManifestError."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_NODES:
            raise ManifestError(f"holds more than {MAX_NODES:,} values", file=file, line=line)
        if any(isinstance(known, int) and abs(known) >= MAX_INTEGER for known in level):
            raise ManifestError("holds a number that is too large", file=file, line=line)
        level = [inner for known in level for inner in _inside(known)]
        if not level:
            return value
    raise ManifestError(f"is nested more than {MAX_DEPTH} deep", file=file, line=line)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def glimpse(path: Path, limit: int = 1 << 16) -> str:
    """The beginning of a file as text, to see what it may be; empty where it can't be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def plain_yaml(path: Path) -> Any:
    """A YAML file as values: text, int, float, bool, None, lists and mappings. Raises ManifestError."""
    return _value(parse_yaml(read(path, most=MAX_DOCUMENT, regular=True), str(path)))


def of(value: Any, line: int) -> Node:
    """The inverse: values as nodes. What else there may be is text."""
    if isinstance(value, dict):
        return Node({str(key): of(inner, line) for key, inner in value.items()}, line)
    if isinstance(value, list | tuple):
        return Node([of(inner, line) for inner in value], line)
    if value is None:
        return Node("null", line, plain=True)
    if isinstance(value, bool):
        return Node(str(value).lower(), line, plain=True)
    return Node(str(value), line, plain=isinstance(value, int | float))


def _value(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _value(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [_value(inner) for inner in node.value]
    if not node.plain:
        return node.value
    if node.is_null:
        return None
    if node.value.lower() in ("true", "false"):
        return node.value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(node.value)
        except ValueError:
            continue
    return node.value


def parse_yaml(data: bytes, file: str) -> Node:
    """The one document in `data`. Raises ManifestError."""
    if len(data) > MAX_DOCUMENT:
        message = f"is larger than {MAX_DOCUMENT >> 20} MiB; JSON Lines (.jsonl) may be longer"
        raise ManifestError(message, file=file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ManifestError("is not UTF-8 text", file=file, line=line) from error
    try:
        return _Tree(file).build(yaml.parse(text, Loader=Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.problem, error.context) if part)
        if "nesting depth" in message:
            message = f"nested more than {MAX_DEPTH} deep ({message})"
        raise ManifestError(f"is not YAML: {message}", file=file, line=mark.line + 1 if mark else None) from error
    except RecursionError as error:
        # libyaml's own limit, or Python's, was reached before ours.
        raise ManifestError(f"is nested more than {MAX_DEPTH} deep", file=file) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"is not YAML: {' '.join(str(error).split())[:300]}", file=file) from error


class _Tree:
    def __init__(self, file: str) -> None:
        self._file = file
        self._anchors: dict[str, Node | None] = {}

    def build(self, events: Iterator[yaml.Event]) -> Node:
        stack: list[tuple[Node, str | None]] = []
        keys: list[Node | None] = []
        root: Node | None = None
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.ScalarEvent):
                self._tag(event.tag, ("str", "int", "float", "bool", "null"), line)
                plain = bool(event.implicit[0])
                done = Node(event.value, line, plain=plain)
                if event.anchor:
                    self._anchors[event.anchor] = done
            elif isinstance(event, yaml.AliasEvent):
                known = self._anchors.get(str(event.anchor))
                if known is None:
                    what = "is inside what it names" if event.anchor in self._anchors else "is not defined"
                    self._fail(f"the alias *{event.anchor} {what}", line)
                done = known
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                listing = isinstance(event, yaml.SequenceStartEvent)
                self._tag(event.tag, ("seq",) if listing else ("map",), line)
                if len(stack) >= MAX_DEPTH:
                    self._fail(f"is nested more than {MAX_DEPTH} deep", line)
                stack.append((Node([] if listing else {}, line), event.anchor))
                keys.append(None)
                if event.anchor:
                    self._anchors[event.anchor] = None
                continue
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                done, anchor = stack.pop()
                keys.pop()
                if anchor:
                    self._anchors[anchor] = done
            elif isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self._fail("holds more than one YAML document", line)
            else:
                continue
            if not stack:
                root = done
                continue
            keys[-1] = self._place(stack[-1][0], keys[-1], done, line)
        if root is None:
            raise ManifestError("is empty", file=self._file)
        return root

    def _place(self, parent: Node, key: Node | None, child: Node, line: int) -> Node | None:
        """Put a finished node into its parent; returns the key that now waits for its value."""
        parent.size += child.size
        if parent.size > MAX_NODES:
            self._fail(f"its aliases expand to too much, or it holds more than {MAX_NODES:,} values", line)
        if isinstance(parent.value, list):
            parent.value.append(child)
            return None
        if key is None:
            if not isinstance(child.value, str):
                self._fail("a key must be a plain word", line)
            # The line of the key's own place, also where it is an alias.
            return Node(child.value, line, plain=child.plain)
        if key.value == "<<" and key.plain:
            self._merge(parent, child, line)
        elif key.value in parent.value and not getattr(parent.value[key.value], "merged", False):
            self._fail("duplicate key", key.line, field=key.value)
        else:
            parent.value[key.value] = child
        return None

    def _merge(self, parent: Node, child: Node, line: int) -> None:
        for source in child.value if isinstance(child.value, list) else [child]:
            if not isinstance(source.value, dict):
                self._fail("<< takes a mapping or a list of mappings", line)
            for name, value in source.value.items():
                if name in parent.value:
                    continue
                parent.value[name] = _Merged(value.value, value.line, value.plain, value.size)

    def _tag(self, tag: str | None, known: tuple[str, ...], line: int) -> None:
        if tag not in (None, "!") and tag not in [CORE + name for name in known]:
            self._fail(f"the tag {tag} is not allowed", line)

    def _fail(self, problem: str, line: int, *, field: str | None = None) -> NoReturn:
        raise ManifestError(problem, file=self._file, line=line, field=field)


class _Merged(Node):
    """Came through `<<`: a key of the mapping itself replaces it."""

    merged = True


class _Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


def parse_json_line(line: bytes, number: int, file: str) -> Node:
    """One line of JSON Lines. Raises ManifestError."""
    if len(line) > MAX_LINE:
        raise ManifestError(f"the line is longer than {MAX_LINE >> 20} MiB", file=file, line=number)

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(entries)
        if len(mapping) != len(entries):
            names = [name for name, _ in entries]
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError("duplicate key", file=file, line=number, field=twice)
        return mapping

    try:
        value = json.loads(
            line, parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=pairs
        )
        return _from_json(value, number, 0, file)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not JSON: {error}", file=file, line=number) from error


def _from_json(value: Any, line: int, depth: int, file: str) -> Node:
    if depth > MAX_DEPTH:
        raise ManifestError(f"is nested more than {MAX_DEPTH} deep", file=file, line=line)
    if isinstance(value, dict):
        return Node({k: _from_json(v, line, depth + 1, file) for k, v in value.items()}, line)
    if isinstance(value, list):
        return Node([_from_json(v, line, depth + 1, file) for v in value], line)
    if isinstance(value, _Number):
        return Node(str(value), line, plain=True)
    if isinstance(value, str):
        return Node(value, line)
    return Node({None: "null", True: "true", False: "false"}[value], line, plain=True)
