"""The verdicts that an --out folder holds, of a run that ended or of one that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import CACHE, JOURNAL, VERDICTS
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.verdict import Record


def records(part: Path) -> list[Record]:
    """A part's verdicts: those of its last run if it finished, else those in its journal; completed by the cache.

    Raises UsageError for a folder that is no part of a run, InfraError.
    """
    known: dict[str, Record] = {}
    # Reading these first reports a folder that is not part of a run.
    lines = rows(part)
    cached = {record.task_id: record for record in VerdictCache(part / CACHE, None).all()}
    for row in lines:
        try:
            record = Record.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"has an entry that is not a record: {error}", file=str(part)) from error
        same = cached.get(record.task_id)
        if same and (same.digest, same.verdict) == (record.digest, record.verdict):
            record.fingerprint, record.evidence = same.fingerprint, same.evidence
        known[record.task_id] = record
    return list(known.values())


def rows(part: Path) -> list[Any]:
    """The same records as they are written. Raises UsageError, InfraError."""
    path = part / VERDICTS
    try:
        document = files.read_document(path)
        tasks, stopped = document["tasks"], document.get("under_way")
    except FileNotFoundError:
        if not files.is_file(part / JOURNAL):
            raise UsageError(
                f"{part} is no part of a run: it has neither {VERDICTS} nor {JOURNAL}", field="OUT"
            ) from None
        return of_run(list(files.read_lines(part / JOURNAL)), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"can't be read: {error}", file=str(path)) from error
    if not isinstance(tasks, list):
        raise UsageError("must be a list", file=str(path), field="tasks")
    # It was stopped: the verdicts of earlier runs are not its own.
    return tasks if stopped is None else of_run(list(files.read_lines(part / JOURNAL)), str(stopped))


def of_run(lines: list[dict[str, Any]], run: str | None) -> list[dict[str, Any]]:
    """The lines of one run; None: the run that wrote last. Lines of older versions name no run, and belong to one."""
    if not lines:
        return []
    wanted = lines[-1].get("run") if run is None else run
    return [line for line in lines if line.get("run") == wanted]
