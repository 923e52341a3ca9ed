"""The values that a manifest's fields hold: how each is read, and its JSON Schema.

A scalar arrives as text (`Plain` where it was not quoted), so that `base_commit: 1e10` and `tmp: off` keep their
spelling; a plain `null` arrives as None.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from packaging.specifiers import SpecifierSet
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from taskgate.harness.base import escape, files
from taskgate.harness.base.names import CONFLICT
from taskgate.harness.base.out_files import EVIDENCE
from taskgate.harness.base.units import parse_size

MAX_NAME = 512
MAX_TEXT = MAX_NAME * 16
INVALID = "taskgate"
# Controls, surrogates, and what breaks lines.
CONTROL = ("Cc", "Cs", "Zl", "Zp")
INVISIBLE = ("Cf", "Co", "Cn")

COMMIT = re.compile(r"[0-9a-fA-F]{4,64}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"\d{1,19}", re.ASCII)
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
CHECK = re.compile(r"[^\W\d]\w*")
URL_PATH = re.compile(r"/[A-Za-z0-9_.~!$&'()*+,;=:@%/?-]*", re.ASCII)
NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
SERVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", re.ASCII)
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*:/[^:]*(:ro|:rw)?", re.ASCII)
REF = re.compile(r"(?!-)(?!.*(\.\.|@\{|//))[^\s~^:?*\[\\\x00-\x20\x7f]+(?<![./])")
CAPABILITY = re.compile(r"(CAP_)?[A-Z_]+", re.ASCII)
ULIMIT = re.compile(r"(-1|\d{1,18})(:(-1|\d{1,18}))?", re.ASCII)
# Mounted over whatever the image has there.
PREFIX = re.compile(r"(/[A-Za-z0-9_.+-]+){2,}")


class Plain(str):
    """A scalar that was written without quotes: it may be a number."""

    __slots__ = ()


def invalid(problem: str, at: str | None = None) -> PydanticCustomError:
    """The error for a value that will not do. `at`: the field of the mapping that it is about."""
    return PydanticCustomError(INVALID, "{problem}", {"problem": problem, "at": at})


@dataclass(frozen=True, eq=False)
class Form:
    """Reads a field's value and describes it: an annotation for pydantic. `read` raises what `invalid` returns."""

    read: Callable[[Any], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


class ContextForm(Form):
    """A form whose `read` is given the validation's context as well."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, info: ValidationInfo) -> Any:
            return self.read(value, info.context or {})  # type: ignore[call-arg]

        return core_schema.with_info_plain_validator_function(read)


@dataclass(frozen=True, eq=False)
class Part:
    """A mapping within a task: an annotation of a dataclass. null stands for a field's default.

    `check` is given the names that are set, and the value; it raises what `invalid` returns. `schema` says the same in
    JSON Schema.
    """

    check: Callable[[set[str], Any], None] | None = None
    schema: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        known = {field.name for field in fields(source)}

        def read(value: Any, validate: Callable[[Any], Any]) -> Any:
            if not isinstance(value, dict):
                return validate(value)
            given = {name: inner for name, inner in value.items() if inner is not None or name not in known}
            result = validate(given)
            if self.check:
                self.check(set(given), result)
            return result

        return core_schema.no_info_wrap_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        inner = handler.resolve_ref_schema(described)
        for name, known in inner["properties"].items():
            inner["properties"][name] = nullable(known)
        inner.update(self.schema)
        return described


@dataclass(frozen=True, eq=False)
class Mapped:
    """A mapping from names to mappings, of which `check` sees the whole. `names`: the names' pattern."""

    check: Callable[[Any], None]
    names: re.Pattern[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        self.check(value)
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        known = handler(schema)
        inner = known.get("additionalProperties") or next(iter(known["patternProperties"].values()))
        return {
            "type": "object",
            "additionalProperties": inner,
            "propertyNames": {"pattern": f"^{self.names.pattern}$"},
        }


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema that takes null as well; what annotates the value stays outside."""
    outer = {name: schema[name] for name in ("description", "default", "examples") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in outer}
    choices = inner["anyOf"] if inner.keys() == {"anyOf"} else [inner]
    null = {"type": "null"}
    return {**outer, "anyOf": [*choices, *([] if null in choices else [null])]}


def present(name: str) -> dict[str, Any]:
    """The JSON Schema of mappings that set `name`."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def text(value: Any, *, empty: bool = False) -> str:
    """A line of text. Raises PydanticCustomError."""
    if not isinstance(value, str):
        raise invalid("must be text")
    if not value and not empty:
        raise invalid("is empty")
    if len(value) > MAX_TEXT:
        raise invalid(f"is longer than {MAX_TEXT} characters")
    if not value.isprintable() and (bad := next((c for c in value if unicodedata.category(c) in CONTROL), None)):
        raise invalid(f"contains a control character (U+{ord(bad):04X})")
    return str(value)


def matching(pattern: re.Pattern[str], noun: str) -> Callable[[Any], str]:
    """Reads text that is a `noun`."""

    def read(value: Any) -> str:
        if not pattern.fullmatch(known := text(value)):
            raise invalid(f"is not a valid {noun}")
        return known

    return read


def one_of(*choices: str) -> Callable[[Any], str]:
    """Reads one of the texts."""

    def read(value: Any) -> str:
        if (known := text(value)) not in choices:
            raise invalid(f"must be one of {', '.join(choices)}")
        return known

    return read


def task_id(value: Any) -> str:
    """One line that is also a line of a skip list and, escaped, a folder's name."""
    known = text(value)
    if len(known) > MAX_NAME:
        raise invalid(f"is longer than {MAX_NAME} characters")
    if known != known.strip() or known.startswith(("#", "/")):
        raise invalid("must not start with `#` or `/`, or start or end with white space")
    if CONFLICT.match(known):
        raise invalid("looks like a merge conflict marker")
    if escape.commanding(known):
        raise invalid("looks like a command to a CI job (`##[`)")
    if not _no_dots(known):
        raise invalid("must not contain `.` or `..` as part of a path")
    if not known.isascii() and any(unicodedata.category(c) in INVISIBLE or (c.isspace() and c != " ") for c in known):
        raise invalid("contains an invisible character")
    return known


def image_name(value: Any) -> str:
    """An image's name, as far as every engine agrees on it."""
    known = text(value)
    if len(known) > MAX_NAME or known[0] == "-" or not known.isprintable() or any(map(str.isspace, known)):
        raise invalid("is not a valid image name")
    return known


def _commit(value: Any) -> str:
    if not COMMIT.fullmatch(known := text(value)):
        raise invalid("must be a commit id (4 to 64 hexadecimal digits)")
    return known


def absolute(value: Any) -> str:
    """An absolute path in the container."""
    if not (known := text(value)).startswith("/"):
        raise invalid("must be an absolute path")
    return known


def _prefix(value: Any) -> str:
    if not PREFIX.fullmatch(known := text(value)) or not _no_dots(known):
        raise invalid("must be an absolute path of two or more parts")
    return known


def _no_dots(path: str) -> bool:
    return not any(part in (".", "..") for part in path.split("/"))


def _number(noun: str, most: int) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if not (isinstance(value, Plain) and NUMBER.fullmatch(value)):
            raise invalid(f"must be a {noun}")
        if not 0 < (known := float(value)) <= most or not math.isfinite(known):
            raise invalid(f"must be more than 0 and at most {most}{' seconds' if 'seconds' in noun else ''}")
        return known

    return read


def whole(least: int = 1, most: int = 1 << 62) -> Callable[[Any], int]:
    """Reads a whole number."""

    def read(value: Any) -> int:
        if not (isinstance(value, Plain) and WHOLE.fullmatch(value)):
            raise invalid("must be a whole number")
        if not least <= (known := int(value)) <= most:
            raise invalid(f"must be a whole number from {least} to {most}")
        return known

    return read


def _switch(value: Any) -> bool:
    if not isinstance(value, Plain) or value.lower() not in ("true", "false"):
        raise invalid("must be true or false")
    return value.lower() == "true"


def size(value: Any) -> int:
    """Bytes: a number, or one with k, m, g or t."""
    try:
        return parse_size(value if isinstance(value, str) else "")
    except ValueError as error:
        raise invalid(str(error)) from error


def _words(value: Any) -> tuple[str, ...]:
    """An argv; of a text, its words as a shell would split them."""
    if not isinstance(value, str):
        return argv(value)
    try:
        words = tuple(shlex.split(text(value)))
    except ValueError as error:
        raise invalid(f"can't be split into words: {error}") from error
    if not words:
        raise invalid("is empty")
    return words


def argv(value: Any) -> tuple[str, ...]:
    """An argv; a text is one for /bin/sh."""
    if not isinstance(value, list):
        return ("/bin/sh", "-c", text(value))
    if not value:
        raise invalid("is empty")
    program, *arguments = value
    return (text(program), *(text(argument, empty=True) for argument in arguments))


def _gpus(value: Any) -> str:
    """`all`, or how many."""
    known = text(value)
    if known != "all" and not re.fullmatch(r"[1-9]\d{0,3}", known, re.ASCII):
        raise invalid("must be `all` or a whole number of 1 or more")
    return known


def _ulimit(value: Any) -> str:
    """SOFT:HARD; of one number, both."""
    if not ULIMIT.fullmatch(known := text(value)):
        raise invalid("must be a number, or SOFT:HARD")
    return known if ":" in known else f"{known}:{known}"


def _period(value: Any) -> float:
    if isinstance(value, Plain) and NUMBER.fullmatch(value) and float(value) == 0:
        return 0.0
    return _number("number of seconds", 86400)(value)


def _submission(value: Any) -> str:
    known = text(value)
    if not _no_dots(known):
        raise invalid("must not contain `.` or `..` as part of a path")
    if not (name := known.rpartition("/")[2]):
        raise invalid("must name a file")
    if name in EVIDENCE:
        raise invalid("is the name of a file that taskgate keeps beside it")
    return known


def _specifier(value: Any) -> str:
    if (known := text(value)).startswith("/"):
        return known
    try:
        # The numbers are parsed only when they are compared.
        for specifier in SpecifierSet(known):
            specifier.contains("3", prereleases=True)
    except ValueError as error:
        raise invalid("is neither a version specifier nor the absolute path of an interpreter") from error
    return known


def check_name(value: Any, context: Mapping[str, Any]) -> str:
    """The name of a check; of one that exists where the context knows them (`checks`)."""
    name = matching(CHECK, "name of a check")(value)
    known = context.get("checks")
    if known is not None and name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise invalid("unknown check" + (f"; did you mean {near[0]}?" if near else ""))
    return name


def host_path(value: Any, context: Mapping[str, Any]) -> str:
    """A path on this host, relative to the manifest."""
    known = text(value)
    try:
        return str(files.resolved(context.get("folder", Path()) / known))
    except (OSError, ValueError) as error:
        raise invalid(f"is not a usable path: {getattr(error, 'strerror', None) or error}") from error


TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}
ARGV: Mapping[str, Any] = {
    "anyOf": [TEXT, {"type": "array", "prefixItems": [TEXT], "items": {"type": "string"}, "minItems": 1}]
}
SIZE: Mapping[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 6 << 20},
        {"type": "string", "pattern": r"^\d+(\.\d+)? ?[kKmMgGtT]?(i?[bB])?$"},
    ]
}

Text = Annotated[str, Form(text, TEXT)]
TaskId = Annotated[
    str,
    Form(
        task_id,
        {
            "anyOf": [
                {**TEXT, "maxLength": MAX_NAME, "pattern": r"^[^\s#/]", "not": {"pattern": r"##[\w-]*\["}},
                {"type": "integer"},
            ]
        },
    ),
]
ImageName = Annotated[str, Form(image_name, {"type": "string", "pattern": r"^[^\s-]\S*$", "maxLength": MAX_NAME})]
Commit = Annotated[str, Form(_commit, {"type": "string", "pattern": r"^[0-9a-fA-F]{4,64}$"})]
AbsolutePath = Annotated[str, Form(absolute, {"type": "string", "pattern": "^/"})]
Platform = Annotated[str, Form(matching(PLATFORM, "platform"), {"type": "string", "pattern": f"^{PLATFORM.pattern}$"})]
User = Annotated[str, Form(text, {"anyOf": [TEXT, {"type": "integer"}]})]
Network = Annotated[str, Form(matching(NETWORK, "network name"), {"type": "string", "pattern": f"^{NETWORK.pattern}$"})]
ModuleName = Annotated[
    str, Form(matching(MODULE, "module name"), {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"})
]
UrlPath = Annotated[
    str, Form(matching(URL_PATH, "path of a URL"), {"type": "string", "pattern": f"^{URL_PATH.pattern}$"})
]
Seconds = Annotated[
    float, Form(_number("number of seconds", 86400), {"type": "number", "exclusiveMinimum": 0, "maximum": 86400})
]
LongSeconds = Annotated[
    float,
    Form(_number("number of seconds", 30 * 86400), {"type": "number", "exclusiveMinimum": 0, "maximum": 30 * 86400}),
]
Cpus = Annotated[
    float, Form(_number("number of processors", 4096), {"type": "number", "exclusiveMinimum": 0, "maximum": 4096})
]
Count = Annotated[int, Form(whole(), {"type": "integer", "minimum": 1})]
Period = Annotated[float, Form(_period, {"type": "number", "minimum": 0, "maximum": 86400})]
VOLUME_SCHEMA: Mapping[str, Any] = {"type": "string", "pattern": r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*:/[^:]*(:ro|:rw)?$"}
Ref = Annotated[str, Form(matching(REF, "git reference"), TEXT)]
Capability = Annotated[
    str, Form(matching(CAPABILITY, "name of a capability"), {"type": "string", "pattern": f"^{CAPABILITY.pattern}$"})
]
Gpus = Annotated[
    str,
    Form(
        _gpus,
        {
            "anyOf": [
                {"const": "all"},
                {"type": "integer", "minimum": 1, "maximum": 9999},
                {"type": "string", "pattern": r"^[1-9]\d{0,3}$"},
            ]
        },
    ),
]
Ulimit = Annotated[
    str,
    Form(
        _ulimit, {"anyOf": [{"type": "integer", "minimum": -1}, {"type": "string", "pattern": f"^{ULIMIT.pattern}$"}]}
    ),
]
Tmpfs = Annotated[str, Form(absolute, {"type": "string", "pattern": "^/"})]
FewCommits = Annotated[int, Form(whole(0, 1000), {"type": "integer", "minimum": 0, "maximum": 1000})]
Port = Annotated[int, Form(whole(most=65535), {"type": "integer", "minimum": 1, "maximum": 65535})]
Size = Annotated[int, Form(size, SIZE)]
Switch = Annotated[bool, Form(_switch, {"type": "boolean"})]
Words = Annotated[tuple[str, ...], Form(_words, ARGV)]
Argv = Annotated[tuple[str, ...], Form(argv, ARGV)]
Submission = Annotated[
    str, Form(_submission, {**TEXT, "not": {"pattern": r"(^|/)(result\.json|agent\.log|isolation\.json)$"}})
]
Specifier = Annotated[str, Form(_specifier, TEXT)]
HostPath = Annotated[str, ContextForm(host_path, TEXT)]
Prefix = Annotated[str, Form(_prefix, {**TEXT, "pattern": f"^{PREFIX.pattern}$"})]
