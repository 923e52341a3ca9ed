"""The verdict cache: what was judged of an image's digest, under settings and checks that are still the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from taskgate.harness import files
from taskgate.harness.errors import UsageError
from taskgate.harness.verdict import Record, Verdict

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_age(text: str) -> timedelta | None:
    """`30d`, `12h`, `90m`, `45s` or `never` (None). Raises UsageError."""
    if text == "never":
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if not found:
        raise UsageError(f"{text!r} is no age: 30d, 12h, 90m, 45s or never", field="--max-age")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


class VerdictCache:
    """Append-only, at `path`; the last line on a task counts. Read by workers, written by the controller."""

    def __init__(self, path: Path, max_age: timedelta | None) -> None:
        self._max_age = max_age
        self._lines = files.Lines(path)

    def get(self, task_id: str, digest: str, fingerprint: str) -> Record | None:
        """The verdict on this very image and these settings, marked as cached; None if there is none that holds."""
        line = self._known.get(task_id)
        if line is None or line[0] != fingerprint:
            return None
        record = line[1]
        return record if record.digest == digest and not self._expired(record) else None

    def put(self, record: Record) -> None:
        """Remember a verdict on an image; others and those from the cache are passed over. Raises InfraError."""
        if record.cached or not record.digest or not record.fingerprint:
            return
        if record.verdict not in (Verdict.HEALTHY, Verdict.BROKEN):
            return
        evidence = record.evidence.as_dict() if record.evidence else None
        self._lines.append({"fingerprint": record.fingerprint, "record": record.as_dict(), "evidence": evidence})

    @cached_property
    def _known(self) -> dict[str, tuple[str, Record]]:
        known = {}
        for line in files.read_lines(self._lines.path):
            try:
                record = Record.from_dict(line["record"], line["evidence"], line["fingerprint"])
                datetime.fromisoformat(record.started)
            except (KeyError, TypeError, ValueError):
                continue
            record.cached = True
            known[record.task_id] = (line["fingerprint"], record)
        return known

    def _expired(self, record: Record) -> bool:
        return self._max_age is not None and datetime.now(UTC) - datetime.fromisoformat(record.started) > self._max_age
