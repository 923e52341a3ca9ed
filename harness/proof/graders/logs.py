"""Logs of tests as the publishers' parsers take them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Of a longer log the beginning is parsed: parsers hold it all in memory, several times.
MAX_BYTES = 128 << 20


@contextlib.contextmanager
def utf8(log: Path) -> Iterator[Path]:
    """A copy of the log for a parser that reads UTF-8, whatever the tests printed. Raises OSError."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="taskgate-log-", suffix=".log") as copy:
        copy.write(text(log))
        copy.flush()
        yield Path(copy.name)


def text(log: Path) -> str:
    """The log as text; what is not UTF-8 is replaced. Raises OSError."""
    with log.open("rb") as file:
        return file.read(MAX_BYTES).decode("utf-8", "replace")
