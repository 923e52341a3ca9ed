"""The verdict cache: what was judged of an image's digest, under settings and checks that are still the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.gate.verdict import Record, Verdict

JUDGED = (Verdict.HEALTHY, Verdict.BROKEN)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_age(text: str) -> timedelta | None:
    """`30d`, `12h`, `90m`, `45s` or `never` (None). Raises UsageError."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if not match:
        raise UsageError(f"{text!r} is no age: 30d, 12h, 90m, 45s or never", field="--max-age")
    # More than a calendar holds is no less.
    return min(timedelta(**{UNITS[match[2]]: int(match[1])}), timedelta(days=36500))


class VerdictCache:
    """Append-only, at `path`; the last line on a task counts. Read by workers, written by the controller."""

    def __init__(self, path: Path, max_age: timedelta | None) -> None:
        self._max_age = max_age
        self._lines = files.Lines(path)

    def get(self, task_id: str, digest: str, fingerprint: str) -> Record | None:
        """The verdict on this very image and these settings, marked as cached; None if there is none that holds."""
        record = self._known.get(task_id)
        if record is None or (record.digest, record.fingerprint) != (digest, fingerprint) or self._expired(record):
            return None
        return record

    def remembers(self, task_id: str, fingerprint: str) -> bool:
        """Is there a verdict on the task, with these settings, on whatever image?"""
        record = self._known.get(task_id)
        return record is not None and record.fingerprint == fingerprint and not self._expired(record)

    def last(self, task_id: str) -> Record | None:
        """The last verdict on the task, whatever its image and settings; None where there is none or it is too old."""
        record = self._known.get(task_id)
        return None if record is None or self._expired(record) else record

    def all(self) -> list[Record]:
        """Every verdict that it holds, however old. Raises InfraError."""
        return list(self._known.values())

    def put(self, record: Record) -> None:
        """Add a verdict on an image; other verdicts, and those from the cache, are ignored. Raises InfraError."""
        if record.cached or not record.digest or not record.fingerprint:
            return
        if record.verdict not in JUDGED:
            return
        self._lines.append(_line(record))
        if "_known" in vars(self):
            self._known[record.task_id] = replace(record, cached=True)

    def compact(self, tasks: int = 0) -> None:
        """Drop lines that newer ones replaced, once they are most of the file. Raises InfraError, NoSpace.

        At a run's end. A file with fewer than twice as many lines as there are `tasks` is not worth reading for it.
        Another run that shares the file may lose verdicts by it: it will find them again.
        """
        path = self._lines.path
        self._lines.close()
        try:
            lines = _count(path)
            if lines <= 2 * tasks:
                return
            # What others wrote meanwhile counts as well.
            self.__dict__.pop("_known", None)
            if lines > 2 * len(self._known):
                kept = (json.dumps(_line(replace(record, cached=False))) for record in self._known.values())
                files.write(path, (f"{line}\n".encode() for line in kept))
        except OSError as error:
            raise files.trouble(path, error) from error

    @cached_property
    def _known(self) -> dict[str, Record]:
        known: dict[str, Record] = {}
        for line in files.read_lines(self._lines.path):
            try:
                record = Record.from_dict(line["record"], line["evidence"], line["fingerprint"])
                zone = datetime.fromisoformat(record.started).tzinfo
            except (KeyError, TypeError, ValueError):
                continue
            if zone and isinstance(record.task_id, str) and record.verdict in JUDGED:
                record.cached = True
                # Last in order, too: the file is compacted in the order of writing.
                known.pop(record.task_id, None)
                known[record.task_id] = record
        return known

    def _expired(self, record: Record) -> bool:
        return self._max_age is not None and datetime.now(UTC) - datetime.fromisoformat(record.started) > self._max_age


def _count(path: Path) -> int:
    """How many lines a file has; none where there is no file. Raises OSError."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def _line(record: Record) -> dict[str, Any]:
    evidence = record.evidence.as_dict() if record.evidence else None
    return {"fingerprint": record.fingerprint, "record": record.as_dict(), "evidence": evidence}
