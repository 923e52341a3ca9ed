"""The parts of a run that was spread over machines, put together again, and proven to be the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from taskgate.harness import files
from taskgate.harness.cache import VerdictCache
from taskgate.harness.errors import UsageError
from taskgate.harness.verdict import Record
from taskgate.reports import verdicts
from taskgate.reports.tally import Tally

VERDICTS, JOURNAL, CACHE = "verdicts.json", "journal.jsonl", "cache.jsonl"


@dataclass(slots=True)
class Merged:
    """`twice`: tasks that more than one part judged, and which parts; `strange`: tasks that are not the manifest's."""

    tally: Tally
    twice: dict[str, list[str]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Every task of the manifest has one verdict, and nothing else has any."""
        return not (self.tally.missing or self.twice or self.strange)


def records(part: Path) -> list[Record]:
    """A part's verdicts: of its last run if that came to its end, else of its journal. With what the cache knows.

    Raises UsageError for a folder that is no part of a run.
    """
    found: dict[str, Record] = {}
    try:
        rows = files.read_document(part / VERDICTS)["tasks"]
    except FileNotFoundError:
        if not (part / JOURNAL).is_file():
            raise UsageError(
                f"{part} is no part of a run: it has neither {VERDICTS} nor {JOURNAL}", field="OUT"
            ) from None
        rows = list(files.read_lines(part / JOURNAL))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"can't be read: {error}", file=str(part / VERDICTS)) from error
    if not isinstance(rows, list):
        raise UsageError("must be a list", file=str(part / VERDICTS), field="tasks")
    cached = {record.task_id: record for record in VerdictCache(part / CACHE, None).all()}
    for row in rows:
        try:
            record = Record.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"holds what is no record: {error}", file=str(part)) from error
        same = cached.get(record.task_id)
        if same and (same.digest, same.verdict) == (record.digest, record.verdict):
            record.fingerprint, record.evidence = same.fingerprint, same.evidence
        found[record.task_id] = record
    return list(found.values())


def merge(parts: list[Path], out: Path, ids: Iterable[str]) -> Merged:
    """Put the parts' verdicts, journals and caches together in `out`. `ids`: the whole manifest's.

    Raises UsageError for a part that is none, InfraError, NoSpace.
    """
    wanted = list(ids)
    merged = Merged(Tally(manifest_ids=wanted, scope=set(wanted)))
    known, origin = set(wanted), dict[str, str]()
    for part in parts:
        if _same(part, out):
            raise UsageError(f"{part} is a part: what is put together goes elsewhere", field="--out")
        for record in records(part):
            if record.task_id in origin:
                merged.twice.setdefault(record.task_id, [origin[record.task_id]]).append(str(part))
            elif record.task_id not in known:
                merged.strange.append(record.task_id)
            else:
                merged.tally.add(record)
            origin.setdefault(record.task_id, str(part))
    for name in (JOURNAL, CACHE):
        _join([part / name for part in parts], out / name)
    verdicts.write(out / VERDICTS, merged.tally)
    return merged


def _same(part: Path, out: Path) -> bool:
    """What leads nowhere is told once it is read, or written to."""
    try:
        return files.resolved(part) == files.resolved(out)
    except OSError:
        return False


def _join(sources: list[Path], target: Path) -> None:
    """Lines one after another. Raises InfraError, NoSpace."""
    lines = (f"{json.dumps(line)}\n".encode() for source in sources for line in files.read_lines(source))
    try:
        files.write(target, lines)
    except OSError as error:
        raise files.trouble(target, error) from error
