"""journal.jsonl: a line per image as it is judged. The truth that survives a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base.files import Lines, read_lines
from taskgate.harness.gate.verdict import Record


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records' written forms, in order; damaged lines are passed over. Raises InfraError."""
    return read_lines(path)


class Journal:
    """Append-only across runs: of a task's lines, the last one counts. Each says which `run` it is of."""

    def __init__(self, path: Path, run: str | None = None) -> None:
        self._lines = Lines(path)
        self._run = {"run": run} if run else {}

    def write(self, record: Record) -> None:
        """Append a record. Raises InfraError, NoSpace."""
        self._lines.append({**record.as_dict(), **self._run})
