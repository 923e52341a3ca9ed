"""The parts of a run that was spread over machines, put together again, and proven to be the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskgate.harness import files
from taskgate.harness.cache import VerdictCache
from taskgate.harness.errors import UsageError
from taskgate.harness.outfiles import CACHE, JOURNAL, VERDICTS
from taskgate.harness.task import Task
from taskgate.harness.verdict import Record
from taskgate.reports import journal, verdicts
from taskgate.reports.tally import Tally


@dataclass(slots=True)
class Merged:
    """`twice`: tasks that more than one part judged, and which parts; `strange`: those that are not the
    manifest's, or not with this image."""

    tally: Tally
    twice: dict[str, list[str]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Every task of the manifest has one verdict, and nothing else has any."""
        return not (self.tally.missing or self.twice or self.strange)


def records(part: Path) -> list[Record]:
    """A part's verdicts: of its last run if that came to its end, else what its journal has of it. With what the cache
    knows.

    Raises UsageError for a folder that is no part of a run, InfraError.
    """
    found: dict[str, Record] = {}
    # First what a folder that is no part does not have.
    told = rows(part)
    cached = {record.task_id: record for record in VerdictCache(part / CACHE, None).all()}
    for row in told:
        try:
            record = Record.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"holds what is no record: {error}", file=str(part)) from error
        same = cached.get(record.task_id)
        if same and (same.digest, same.verdict) == (record.digest, record.verdict):
            record.fingerprint, record.evidence = same.fingerprint, same.evidence
        found[record.task_id] = record
    return list(found.values())


def rows(part: Path) -> list[Any]:
    """The same as it is written. Raises UsageError, InfraError."""
    path = part / VERDICTS
    try:
        document = files.read_document(path)
        tasks, stopped = document["tasks"], document.get("under_way")
    except FileNotFoundError:
        if not files.is_file(part / JOURNAL):
            raise UsageError(
                f"{part} is no part of a run: it has neither {VERDICTS} nor {JOURNAL}", field="OUT"
            ) from None
        return journal.of_run(list(journal.read(part / JOURNAL)), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"can't be read: {error}", file=str(path)) from error
    if not isinstance(tasks, list):
        raise UsageError("must be a list", file=str(path), field="tasks")
    # It was stopped: what earlier runs have found out is not its own.
    return tasks if stopped is None else journal.of_run(list(journal.read(part / JOURNAL)), str(stopped))


def merge(parts: list[Path], out: Path, tasks: Iterable[Task], run: str) -> Merged:
    """Put the parts' verdicts, journals and caches together in `out`. `tasks`: the whole manifest's.

    Raises UsageError for a part that is none, InfraError, NoSpace.
    """
    images = {task.id: task.image for task in tasks}
    merged = Merged(Tally(manifest_ids=list(images), scope=set(images)))
    origin = dict[str, str]()
    for part in parts:
        if _same(part, out):
            raise UsageError(f"{part} is a part: what is put together goes elsewhere", field="--out")
        for record in records(part):
            if record.task_id in origin:
                merged.twice.setdefault(record.task_id, [origin[record.task_id]]).append(str(part))
            elif record.task_id not in images:
                merged.strange.append(record.task_id)
            elif record.image != images[record.task_id]:
                merged.strange.append(f"{record.task_id} with the image {record.image}")
            else:
                merged.tally.add(record)
            origin.setdefault(record.task_id, str(part))
    verdicts.begin(out / VERDICTS, merged.tally, run)
    _join(({**row, "run": run} for part in parts for row in rows(part)), out / JOURNAL)
    _join((line for part in parts for line in files.read_lines(part / CACHE)), out / CACHE)
    verdicts.write(out / VERDICTS, merged.tally)
    return merged


def _same(part: Path, out: Path) -> bool:
    """What leads nowhere is told once it is read, or written to."""
    try:
        return files.resolved(part) == files.resolved(out)
    except OSError:
        return False


def _join(lines: Iterable[dict[str, Any]], target: Path) -> None:
    """One after another. Raises InfraError, NoSpace."""
    try:
        files.write(target, (f"{json.dumps(line)}\n".encode() for line in lines))
    except OSError as error:
        raise files.trouble(target, error) from error
