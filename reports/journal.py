"""journal.jsonl: a line per image, written as soon as it is judged: what survives a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base.files import Lines, read_lines
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record
from taskgate.reports.report import Report


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records as JSON objects, in order; damaged lines are left out. Raises InfraError."""
    return read_lines(path)


class Journal(Report):
    """Append-only across runs; of a task's lines, the last one counts. Each names the `run` that wrote it."""

    def __init__(self, path: Path, run: str | None = None) -> None:
        self._lines = Lines(path)
        self._run = {"run": run} if run else {}

    def write(self, record: Record) -> None:
        """Append a record. Raises InfraError, NoSpace."""
        self._lines.append({**record.as_dict(), **self._run})

    def add(self, record: Record, tally: Tally) -> None:
        self.write(record)
