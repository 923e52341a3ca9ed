"""The skip list: the tasks that are known to be broken, and why. A text file (skip_text) or a table (skip_table)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from taskgate.harness.gate.skip_entry import Clearance, Entry
from taskgate.harness.gate.skip_text import TextSkipList


class SkipList(Protocol):
    def read(self) -> dict[str, Entry]:
        """All entries by task id. Raises SkipListError."""
        ...

    def update(self, add: Iterable[Entry], remove: Iterable[str | Clearance]) -> None:
        """Merge into what others wrote meanwhile; entries by hand stay as they are. Raises SkipListError.

        An id is removed whatever is known of it, a `Clearance` only where it clears the entry that is there now.
        """
        ...

    def discard(self, ids: Iterable[str]) -> None:
        """Remove entries because a person says so, those by hand included. Raises SkipListError."""
        ...


def open_skip_list(where: str) -> SkipList:
    """The list at a path, or in the database that a URL (`sqlite:///…`, `postgresql://…`) names."""
    if "://" in where:
        # SQLAlchemy takes a third of the start-up time, and most lists are text files.
        from taskgate.harness.gate.skip_table import TableSkipList

        return TableSkipList(where)
    return TextSkipList(Path(where))
