"""journal.jsonl: a line per image as it is judged. The truth that survives a kill."""

from __future__ import annotations

from pathlib import Path

from taskgate.harness.files import Lines
from taskgate.harness.verdict import Record


class Journal:
    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def write(self, record: Record) -> None:
        """Append a record. Raises InfraError, NoSpace."""
        self._lines.append(record.as_dict())
