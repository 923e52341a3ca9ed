"""The one interface of all formats, and how they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from taskgate.harness.base.errors import UsageError


@dataclass(frozen=True, slots=True)
class Source:
    """What the user named: `text`, and after a `?` the `options` (`format`, `match`, `defaults`, a format's own)."""

    text: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Source:
        """A file of that very name is meant, whatever its name holds."""
        before, mark, after = text.partition("?")
        if not mark or Path(text).exists():
            return cls(text)
        return cls(before, dict(parse_qsl(after, keep_blank_values=True)))

    @property
    def path(self) -> Path:
        return Path(self.text)

    @property
    def ignores_unsupported(self) -> bool:
        """Does the user take tasks without what taskgate can't carry over?"""
        return self.options.get("ignore_unsupported") == "true"

    def fail(
        self, problem: str, *, file: Path | str | None = None, line: int | None = None, field: str | None = None
    ) -> UsageError:
        """The error to raise for what is wrong in the source."""
        return UsageError(problem, file=str(file or self.text), line=line, field=field)

    def matches(self, *names: str) -> bool:
        """Is one of these wanted? `match` is a pattern as in a shell."""
        pattern = self.options.get("match")
        return pattern is None or any(fnmatchcase(name, pattern) for name in names)


@dataclass(frozen=True, slots=True)
class Build:
    """An image that a task brings as a Dockerfile: `context` is a folder of this host, `dockerfile` relative to it."""

    context: Path
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A task: its fields as in a manifest, where they come from, and how its image is built if it brings none.

    `service_builds`: how the images of its services are built, by the services' names. `fallback`: fields that hold
    where the user's defaults say nothing.
    """

    fields: Mapping[str, Any]
    file: str
    line: int = 1
    build: Build | None = None
    service_builds: Mapping[str, Build] = field(default_factory=dict)
    fallback: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Importer:
    """`recognises` looks only as far as it must; `load` raises UsageError that names file and field. `options` are
    those of its own."""

    name: str
    about: str
    recognises: Callable[[Source], bool]
    load: Callable[[Source], Iterable[Row]]
    options: tuple[str, ...] = ()


COMMON = ("format", "match", "defaults", "ignore_unsupported")


def all_importers() -> dict[str, Importer]:
    """Every format by its name: those in this folder, and installed ones. Raises UsageError for one that is broken."""
    package = importlib.import_module("taskgate.harness.tasks.importers")
    importers: list[Importer] = []
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        if isinstance(importer := getattr(loaded, "IMPORTER", None), Importer):
            importers.append(importer)
    for point in entry_points(group="taskgate.importers"):
        try:
            loaded = point.load()
        except Exception as error:
            raise UsageError(f"the importer {point.name} can't be loaded: {type(error).__name__}: {error}") from error
        importers.append(getattr(loaded, "IMPORTER", loaded))
    return {importer.name: importer for importer in importers}


def choose(source: Source, format: str | None = None) -> Importer | None:
    """The importer for a source; None where it is a manifest. Raises UsageError."""
    known = all_importers()
    name = format or source.options.get("format")
    if name == "manifest":
        return None
    if name is not None:
        if name not in known:
            raise UsageError(
                f"there is no format {name!r}; there are {', '.join(sorted([*known, 'manifest']))}", field="--format"
            )
        chosen: Importer | None = known[name]
    else:
        chosen = next((importer for importer in known.values() if importer.recognises(source)), None)
    allowed = (*COMMON, *(chosen.options if chosen else ()))
    if wrong := [option for option in source.options if option not in allowed]:
        raise source.fail(
            f"is not an option of {chosen.name if chosen else 'a manifest'}; there are {', '.join(allowed)}",
            field=wrong[0],
        )
    return chosen
