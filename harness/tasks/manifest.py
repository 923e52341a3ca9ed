"""The manifest: a document (YAML) or one task a line (JSON Lines), read into tasks. No surprises, clear errors."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from packaging.specifiers import SpecifierSet

from taskgate.harness.base import escape, files
from taskgate.harness.base.errors import ManifestError
from taskgate.harness.base.names import CONFLICT
from taskgate.harness.base.out_files import EVIDENCE
from taskgate.harness.base.units import parse_size
from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Row
from taskgate.harness.tasks.runtime_spec import MODES, Runtime
from taskgate.harness.tasks.task import PRIVILEGES, VARIABLE, Agent, Budget, Limits, Require, Task
from taskgate.harness.tasks.yaml_tree import Node

VERSION = "1"
PULLS = ("missing", "always", "never")
LEVELS = ("fail", "warn", "off")
TASK_ONLY = ("id", "image", "base_commit")
COMMIT = re.compile(r"[0-9a-fA-F]{4,64}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
CHECK = re.compile(r"[^\W\d]\w*")
URL_PATH = re.compile(r"/[A-Za-z0-9_.~!$&'()*+,;=:@%/?-]*", re.ASCII)
NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?")
# It is mounted over whatever the image has there.
PREFIX = re.compile(r"(/[A-Za-z0-9_.+-]+){2,}")
MAX_TEXT = 512


def load(path: str | Path, checks: frozenset[str] | None = None) -> list[Task]:
    """All tasks of a manifest, in its order. `checks`: the names that there are; without them, any will do.

    Raises ManifestError with file, line and field.
    """
    path = Path(path)
    data = yaml_tree.read(path)
    if path.suffix in (".jsonl", ".ndjson"):
        return _Builder(str(path), checks).lines(data)
    return _Builder(str(path), checks).whole(yaml_tree.parse_yaml(data, str(path)))


def from_rows(rows: Iterable[Row], *, defaults: Path | None = None, checks: frozenset[str] | None = None) -> list[Task]:
    """Tasks out of what an importer found, by the very rules of a manifest. `defaults`: a file with a mapping as the
    manifest's `defaults`, for what the rows don't say. Raises ManifestError."""
    builder = _Builder("", checks)
    if defaults is not None:
        builder.file = str(defaults)
        builder.read_defaults(yaml_tree.parse_yaml(yaml_tree.read(defaults), str(defaults)))
    made = []
    for row in rows:
        builder.file = row.file
        made.append(builder.task(yaml_tree.of(dict(row.fields), row.line), ""))
    return made


def load_agent(path: Path) -> Agent:
    """An agent out of a file of its own: a mapping as the manifest's `agent`. Raises ManifestError."""
    builder = _Builder(str(path))
    agent = builder.agent(yaml_tree.parse_yaml(yaml_tree.read(path), str(path)), "agent")
    if agent is None:
        raise ManifestError("is empty", file=str(path), field="agent")
    return agent


def schema() -> dict[str, Any]:
    """The JSON Schema of the YAML form (draft 2020-12), as it is shipped for editors."""
    text = resources.files("taskgate.harness.tasks").joinpath("manifest.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def id_of(image: str) -> str:
    """The id of a task that names none: `demo/one:1` is `demo__one-1`."""
    return image.replace("/", "__").replace(":", "-").replace("@", "-")


class _Builder:
    """Tasks out of nodes. One for a file."""

    def __init__(self, file: str, checks: frozenset[str] | None = None) -> None:
        self.file, self._checks = file, checks
        self.defaults = Task(id="", image="")
        self._seen: dict[str, int] = {}
        self._shared: dict[Any, Any] = {}

    def whole(self, root: Node) -> list[Task]:
        top = self.mapping(root, "", ("version", "defaults", "tasks"))
        self.version(top, root)
        if "defaults" in top and not top["defaults"].is_null:
            self.read_defaults(top["defaults"])
        if "tasks" not in top:
            self.fail("is missing", root, "tasks")
        tasks = top["tasks"]
        if not isinstance(tasks.value, list):
            self.fail("must be a list", tasks, "tasks")
        return [self.task(node, f"tasks[{number}]") for number, node in enumerate(tasks.value)]

    def lines(self, data: bytes) -> list[Task]:
        return list(self._each_line(data))

    def _each_line(self, data: bytes) -> Iterator[Task]:
        first = True
        for number, line in yaml_tree.lines(data):
            node = yaml_tree.parse_json_line(line, number, self.file)
            if first and isinstance(node.value, dict) and "version" in node.value and "image" not in node.value:
                top = self.mapping(node, "", ("version", "defaults"))
                self.version(top, node)
                if "defaults" in top and not top["defaults"].is_null:
                    self.read_defaults(top["defaults"])
            else:
                yield self.task(node, "")
            first = False

    def version(self, top: dict[str, Node], at: Node) -> None:
        if "version" not in top:
            self.fail("is missing (write `version: 1`)", at, "version")
        node = top["version"]
        if not node.plain or node.value != VERSION:
            self.fail(f"must be {VERSION}", node, "version")

    def read_defaults(self, node: Node) -> None:
        fields = self.mapping(node, "defaults", tuple(READERS), refused=TASK_ONLY)
        self.defaults = dataclasses.replace(self.defaults, **self.read(fields, "defaults"))

    def task(self, node: Node, where: str) -> Task:
        if isinstance(node.value, str):
            node = Node({"image": node}, node.line)
        fields = self.mapping(node, where, (*TASK_ONLY, *READERS))
        if "image" not in fields:
            self.fail("is missing", node, _join(where, "image"))
        image = self.image(fields["image"], _join(where, "image"))
        named = fields.get("id")
        task_id = self.task_id(named, _join(where, "id")) if named else id_of(image)
        if not named:
            # An image may be called longer.
            task_id = self.task_id(Node(task_id[:MAX_TEXT], node.line), _join(where, "image"))
        if task_id in self._seen:
            said = f"{task_id!r} is taken by the task on line {self._seen[task_id]}"
            self.fail(said, named or node, _join(where, "id"))
        self._seen[task_id] = node.line
        commit = fields.get("base_commit")
        given = self.read({k: v for k, v in fields.items() if k in READERS}, where)
        if "checks" in given and self.defaults.checks:
            given["checks"] = {**self.defaults.checks, **given["checks"]}
        return dataclasses.replace(
            self.defaults,
            id=task_id,
            image=image,
            base_commit=self.commit(commit, _join(where, "base_commit")) if commit else None,
            **given,
        )

    def read(self, fields: dict[str, Node], where: str) -> dict[str, Any]:
        return {name: READERS[name](self, node, _join(where, name)) for name, node in fields.items()}

    # What a field can hold.

    def mapping(
        self, node: Node, where: str, known: tuple[str, ...] | None, *, refused: tuple[str, ...] = ()
    ) -> dict[str, Node]:
        if not isinstance(node.value, dict):
            self.fail("must be a mapping", node, where or None)
        for name, value in node.value.items():
            if name in refused:
                self.fail("belongs to a task, not to the defaults", value, _join(where, name))
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
                self.fail("is no field of a manifest" + meant, value, _join(where, name))
        found: dict[str, Node] = node.value
        return found

    def text(self, node: Node, where: str, *, empty: bool = False) -> str:
        value = node.value
        if not isinstance(value, str) or node.is_null:
            self.fail("must be text", node, where)
        if not value and not empty:
            self.fail("is empty", node, where)
        if len(value) > MAX_TEXT * 16:
            self.fail("is too long", node, where)
        if bad := next((c for c in value if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None):
            self.fail(f"holds a control character (U+{ord(bad):04X})", node, where)
        return value

    def optional(self, node: Node, where: str) -> str | None:
        return None if node.is_null else self.text(node, where)

    def task_id(self, node: Node, where: str) -> str:
        value = self.text(node, where)
        if len(value) > MAX_TEXT:
            self.fail(f"is longer than {MAX_TEXT} characters", node, where)
        if value != value.strip() or value.startswith(("#", "/")):
            self.fail("must not begin with `#` or `/`, nor begin or end with white space", node, where)
        if CONFLICT.match(value):
            self.fail("looks like the mark of a merge conflict", node, where)
        if escape.commanding(value):
            self.fail("looks like a command to a CI job (`##[`)", node, where)
        if any(part in (".", "..") for part in value.split("/")):
            self.fail("must not hold `.` or `..` as a part of a path", node, where)
        if any(unicodedata.category(c) in ("Cf", "Co", "Cn") or (c.isspace() and c != " ") for c in value):
            self.fail("holds an invisible character", node, where)
        return value

    def image(self, node: Node, where: str) -> str:
        value = self.text(node, where)
        if len(value) > MAX_TEXT or value.startswith("-") or any(c.isspace() for c in value) or not value.isprintable():
            self.fail("is no image name", node, where)
        return value

    def commit(self, node: Node, where: str) -> str | None:
        value = self.optional(node, where)
        if value is not None and not COMMIT.fullmatch(value):
            self.fail("must be a commit id (4 to 64 hexadecimal digits)", node, where)
        return value

    def path(self, node: Node, where: str) -> str | None:
        value = self.optional(node, where)
        if value is not None and not value.startswith("/"):
            self.fail("must be an absolute path", node, where)
        return value

    def pattern(self, form: re.Pattern[str], what: str) -> Callable[[Node, str], str]:
        def read(node: Node, where: str) -> str:
            value = self.text(node, where)
            if not form.fullmatch(value):
                self.fail(f"is no {what}", node, where)
            return value

        return read

    def choice(self, node: Node, where: str, among: tuple[str, ...]) -> str:
        value = self.text(node, where)
        if value not in among:
            self.fail(f"must be one of {', '.join(among)}", node, where)
        return value

    def seconds(self, node: Node, where: str) -> float:
        return self.number(node, where, "number of seconds", 86400)

    def number(self, node: Node, where: str, what: str, most: int) -> float:
        if not (node.plain and isinstance(node.value, str) and NUMBER.fullmatch(node.value)):
            self.fail(f"must be a {what}", node, where)
        value = float(node.value)
        if not (0 < value <= most) or not math.isfinite(value):
            self.fail(f"must be more than 0 and at most {most}{' seconds' if 'seconds' in what else ''}", node, where)
        return value

    def texts(self, node: Node, where: str) -> tuple[str, ...]:
        if not isinstance(node.value, list):
            self.fail("must be a list of texts", node, where)
        return tuple(self.text(item, f"{where}[{number}]") for number, item in enumerate(node.value))

    def agent(self, node: Node, where: str) -> Agent | None:
        if node.is_null:
            return None
        fields = self.mapping(node, where, tuple(field.name for field in dataclasses.fields(Agent)))
        if sum(name in fields for name in ("module", "command", "server")) != 1 and not (
            "run" in fields and set(fields) <= {"run", "probe"}
        ):
            self.fail("takes exactly one of module, command and server, or run alone", node, where)
        given: dict[str, Any] = {}
        for name, value in fields.items():
            at = f"{where}.{name}"
            if name == "module":
                given[name] = self.pattern(MODULE, "module name")(value, at)
            elif name in ("port", "health", "post"):
                if "server" not in fields:
                    self.fail("is for a server", value, at)
                given[name] = (
                    self.port(value, at) if name == "port" else self.pattern(URL_PATH, "path of a URL")(value, at)
                )
            elif name == "run" and isinstance(value.value, str):
                # The task's id is added at the end, which a shell's -c would not pass on.
                given[name] = self.words(value, at)
            else:
                given[name] = self.argv(value, at)
        if "server" in given and "run" in given:
            self.fail("is not for a server, which gets its task by a POST", fields["run"], f"{where}.run")
        return Agent(**given)

    def words(self, node: Node, where: str) -> tuple[str, ...]:
        try:
            found = tuple(shlex.split(self.text(node, where)))
        except ValueError as error:
            self.fail(f"can't be split into words: {error}", node, where)
        if not found:
            self.fail("is empty", node, where)
        return found

    def argv(self, node: Node, where: str) -> tuple[str, ...]:
        if not isinstance(node.value, list):
            return ("/bin/sh", "-c", self.text(node, where))
        if not node.value:
            self.fail("is empty", node, where)
        return self.texts(node, where)

    def count(self, node: Node, where: str, least: int = 1, most: int = 1 << 62) -> int:
        if not (node.plain and isinstance(node.value, str) and re.fullmatch(r"\d{1,19}", node.value, re.ASCII)):
            self.fail("must be a whole number", node, where)
        if not least <= int(node.value) <= most:
            self.fail(f"must be a whole number from {least} to {most}", node, where)
        return int(node.value)

    def port(self, node: Node, where: str) -> int:
        return self.count(node, where, most=65535)

    def size(self, node: Node, where: str) -> int:
        """Bytes, or a number with k, m, g or t."""
        try:
            return parse_size(node.value if isinstance(node.value, str) else "")
        except ValueError as error:
            self.fail(str(error), node, where)

    def limits(self, node: Node, where: str) -> Limits:
        fields = self.mapping(node, where, tuple(field.name for field in dataclasses.fields(Limits)))
        readers: dict[str, Callable[[Node, str], Any]] = {
            "cpus": lambda value, at: self.number(value, at, "number of processors", 4096),
            "memory": self.size,
            "disk": self.size,
            "pids": self.count,
        }
        return Limits(**{n: readers[n](v, f"{where}.{n}") for n, v in fields.items() if not v.is_null})

    def budget(self, node: Node, where: str) -> Budget:
        fields = self.mapping(node, where, tuple(field.name for field in dataclasses.fields(Budget)))
        readers: dict[str, Callable[[Node, str], Any]] = {
            "seconds": lambda value, at: self.number(value, at, "number of seconds", 30 * 86400),
            "calls": self.count,
        }
        return Budget(**{n: readers[n](v, f"{where}.{n}") for n, v in fields.items() if not v.is_null})

    def env(self, node: Node, where: str) -> dict[str, str]:
        fields = self.mapping(node, where, None)
        for name, value in fields.items():
            if not VARIABLE.fullmatch(name):
                self.fail("is no name of an environment variable", value, _join(where, name[:80]))
        return {name: self.text(value, _join(where, name), empty=True) for name, value in fields.items()}

    def submission(self, node: Node, where: str) -> str | None:
        value = self.optional(node, where)
        if value is not None and any(part in (".", "..") for part in value.split("/")):
            self.fail("must not hold `.` or `..` as a part of a path", node, where)
        if value is not None and not value.rpartition("/")[2]:
            self.fail("must name a file", node, where)
        if value is not None and value.rpartition("/")[2] in EVIDENCE:
            self.fail("is the name of a file that taskgate keeps beside it", node, where)
        return value

    def require(self, node: Node, where: str) -> Require:
        fields = self.mapping(node, where, ("commands", "files", "modules"))
        found = {name: self.texts(value, f"{where}.{name}") for name, value in fields.items()}
        for number, name in enumerate(found.get("modules", ())):
            if not MODULE.fullmatch(name):
                self.fail("is no module name", fields["modules"].value[number], f"{where}.modules[{number}]")
        return Require(**found)

    def checks(self, node: Node, where: str) -> dict[str, str]:
        fields = self.mapping(node, where, None)
        for name, value in fields.items():
            if not CHECK.fullmatch(name):
                self.fail("is no name of a check", value, _join(where, name[:80]))
            if self._checks is not None and name not in self._checks:
                near = difflib.get_close_matches(name, self._checks, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                self.fail(f"there is no check {name!r}{meant}", value, _join(where, name))
        read = {name: self.choice(value, _join(where, name), LEVELS) for name, value in fields.items()}
        key = tuple(sorted(read.items()))
        shared: dict[str, str] = self._shared.setdefault(key, read)
        return shared

    def shell(self, node: Node, where: str) -> tuple[str, ...] | None:
        if node.is_null:
            return None
        return self.words(node, where) if isinstance(node.value, str) else self.argv(node, where)

    def python(self, node: Node, where: str) -> str | None:
        value = self.optional(node, where)
        if value is not None and value.startswith("/"):
            return value
        try:
            # Numbers are looked at when they are compared.
            for one in SpecifierSet(value or ""):
                one.contains("3", prereleases=True)
        except ValueError:
            self.fail(
                "is neither a version specifier such as >=3.9 nor the absolute path of an interpreter", node, where
            )
        return value

    def place(self, node: Node, where: str) -> str:
        """A path, relative to the manifest."""
        try:
            return str(files.resolved(Path(self.file).parent / self.text(node, where)))
        except (OSError, ValueError) as error:
            self.fail(f"can't be a path: {getattr(error, 'strerror', None) or error}", node, where)

    def runtime(self, node: Node, where: str) -> Runtime | None:
        if node.is_null:
            return None
        known = tuple(field.name for field in dataclasses.fields(Runtime))
        fields = {name: value for name, value in self.mapping(node, where, known).items() if not value.is_null}
        given: dict[str, Any] = {}
        for name, value in fields.items():
            at = _join(where, name)
            if name == "mode":
                given[name] = self.choice(value, at, MODES)
            elif name in ("builder", "from_image"):
                given[name] = self.image(value, at)
            elif name == "path":
                given[name] = self.prefix(value, at)
            else:
                # As in every manifest of the kind: relative to the file that says it.
                given[name] = self.place(value, at)
        sources = [name for name in ("from_image", "directory", "tar") if name in given]
        if len(sources) > 1:
            self.fail(f"takes only one of {' and '.join(sources)}", node, where)
        if sources and (made := [name for name in ("requirements", "agent", "builder") if name in given]):
            self.fail(f"{made[0]} is for taskgate's own bundle, not for {sources[0]}", fields[made[0]], where)
        if sources == ["from_image"] and "path" not in given:
            self.fail("is missing: where in from_image the runtime is", node, _join(where, "path"))
        if given.get("mode") == "present":
            if set(given) != {"mode", "path"}:
                self.fail("of mode present takes a path, and nothing else", node, where)
            return Runtime(**given)
        if not sources and "path" in given:
            self.fail("is for from_image, directory and tar; a bundle's path is made from its digest", node, where)
        return Runtime(**given)

    def prefix(self, node: Node, where: str) -> str:
        value = self.text(node, where)
        if not PREFIX.fullmatch(value) or any(part in (".", "..") for part in value.split("/")):
            self.fail("must be an absolute path of two parts or more, such as /opt/conda", node, where)
        return value

    def fail(self, problem: str, at: Node, field: str | None) -> NoReturn:
        raise ManifestError(problem, file=self.file, line=at.line, field=field)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


READERS: dict[str, Callable[[_Builder, Node, str], Any]] = {
    "repo_path": _Builder.path,
    "workdir": _Builder.path,
    "platform": lambda self, node, where: self.pattern(PLATFORM, "platform such as linux/amd64")(node, where),
    "user": _Builder.optional,
    "pull": lambda self, node, where: self.choice(node, where, PULLS),
    "timeout": _Builder.seconds,
    "agent": _Builder.agent,
    "python": _Builder.python,
    "shell": _Builder.shell,
    "privileges": lambda self, node, where: self.choice(node, where, PRIVILEGES),
    "setup_commits": lambda self, node, where: self.count(node, where, least=0, most=1000),
    "runtime": _Builder.runtime,
    "network": lambda self, node, where: self.pattern(NETWORK, "name of a network")(node, where),
    "env": _Builder.env,
    "limits": _Builder.limits,
    "budget": _Builder.budget,
    "submission": _Builder.submission,
    "require": _Builder.require,
    "checks": _Builder.checks,
}
