"""The tasks of a source: a manifest, or one of the formats in harness/tasks/importers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from taskgate.harness.base.errors import UsageError
from taskgate.harness.tasks import manifest, yaml_tree
from taskgate.harness.tasks.importers import importer
from taskgate.harness.tasks.importers.importer import Row, Source
from taskgate.harness.tasks.task import Task

OWN_DEFAULTS = "a manifest has defaults of its own"


def load(
    text: str,
    *,
    format: str | None = None,
    defaults: str | None = None,
    base: Path | None = None,
    checks: frozenset[str] | None = None,
) -> list[Task]:
    """All tasks, in the source's order. `checks`: the names that there are; without them, any will do.

    Raises UsageError, also where images must be built first.
    """
    loaded = read(text, format=format, defaults=defaults, base=base, checks=checks)
    if isinstance(loaded, list):
        if defaults is not None:
            raise UsageError(OWN_DEFAULTS, file=text, field="defaults")
        return loaded
    source, rows = loaded
    if waiting := [row for row in rows if row.build or row.service_builds]:
        raise UsageError(
            f"{len(waiting)} of {len(rows)} tasks bring a Dockerfile and no image: "
            f"`taskgate build {text} -o manifest.yaml` builds them and writes the manifest to use",
            file=waiting[0].file,
        )
    return tasks(source, rows, defaults=defaults, base=base, checks=checks)


def read(
    text: str,
    *,
    format: str | None = None,
    defaults: str | None = None,
    base: Path | None = None,
    checks: frozenset[str] | None = None,
) -> list[Task] | tuple[Source, list[Row]]:
    """A manifest's tasks, or the rows of another format that `match` lets through. Raises UsageError.

    `defaults`: a file; only whether it ignores what is not supported is read of it here.
    """
    try:
        source = _source(text, base)
        where = defaults or source.options.get("defaults")
        if where and manifest.ignores_unsupported((base or Path()) / where):
            source = replace(source, options={**source.options, "ignore_unsupported": "true"})
        return _read(source, format, checks)
    except OSError as error:
        # A name that is too long, a folder that this user may not enter. What importers ask servers for is not a file.
        if error.errno is None:
            raise
        message = f"can't be read: {error.strerror or error}"
        raise UsageError(message, file=str(error.filename or text)[:1000]) from error


def _read(source: Source, format: str | None, checks: frozenset[str] | None) -> list[Task] | tuple[Source, list[Row]]:
    chosen = importer.choose(source, format)
    if chosen is None:
        _plausible(source)
        if "defaults" in source.options:
            raise source.fail(OWN_DEFAULTS, field="defaults")
        return [task for task in manifest.load(source.path, checks) if source.matches(task.id, task.image)]
    rows = [
        row for row in chosen.load(source) if source.matches(str(row.fields.get("id")), str(row.fields.get("image")))
    ]
    if not rows:
        raise source.fail(f"no task of it matches {source.options.get('match')!r}", field="match")
    return source, rows


def _plausible(source: Source) -> None:
    """Raises UsageError, which says what is expected, for what is neither a manifest nor anything else."""
    path = source.path
    start = yaml_tree.glimpse(path, 1 << 20)
    if path.is_dir() or (path.is_file() and "tasks" not in start and '"image"' not in start):
        formats = "; ".join(f"{known.name}: {known.about}" for known in importer.all_importers().values())
        raise source.fail(f"is not a task set: expected a manifest (YAML or JSON Lines, with `tasks`), or {formats}")


def tasks(
    source: Source,
    rows: list[Row],
    *,
    defaults: str | None = None,
    base: Path | None = None,
    checks: frozenset[str] | None = None,
) -> list[Task]:
    """Rows as tasks. Raises UsageError."""
    where = defaults or source.options.get("defaults")
    return manifest.from_rows(rows, defaults=(base or Path()) / where if where else None, checks=checks)


def _source(text: str, base: Path | None) -> Source:
    """A relative path is taken from `base`. Raises UsageError for a web address."""
    if text.lower().startswith(("http://", "https://")):
        raise UsageError("is a web address: download the file first (a registry is registry://HOST)", file=text)
    if "://" in text or base is None:
        return Source.parse(text)
    source = Source.parse(str(base / text))
    plain = Source.parse(text)
    # Some names are no paths: an installed package's.
    return source if source.path.exists() or "/" in plain.text or "." in plain.text else plain
