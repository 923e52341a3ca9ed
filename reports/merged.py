"""The files of a merged run: verdicts.json, and the journals and caches of its parts one after another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import CACHE, JOURNAL, VERDICTS
from taskgate.harness.gate import recorded
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.tally import Tally
from taskgate.reports import verdicts


def check_target(parts: list[Path], out: Path) -> None:
    """Refuse an `out` that is one of the parts. Raises UsageError."""
    for part in parts:
        if _same(part, out):
            raise UsageError(f"{part} is one of the parts: write the merged run to another folder", field="--out")


def write(parts: list[Path], out: Path, tally: Tally, run: str) -> None:
    """Write the files into `out`. Raises UsageError for a part that can't be read, InfraError, NoSpace."""
    verdicts.begin(out / VERDICTS, tally, run)
    _join(({**row, "run": run} for part in parts for row in recorded.rows(part)), out / JOURNAL)
    _join(_cache_lines(parts, out), out / CACHE)
    verdicts.write(out / VERDICTS, tally)


def _same(part: Path, out: Path) -> bool:
    """A path that can't be resolved is reported once it is read or written."""
    try:
        return files.resolved(part) == files.resolved(out)
    except OSError:
        return False


def _cache_lines(parts: list[Path], out: Path) -> Iterator[dict[str, Any]]:
    """What the cache in `out` holds, then what the parts' caches hold that is not older. Raises InfraError."""
    yield from files.read_lines(out / CACHE)
    known = {record.task_id: record.started for record in VerdictCache(out / CACHE, None).all()}
    for part in parts:
        for line in files.read_lines(part / CACHE):
            record = line.get("record")
            if isinstance(record, dict) and str(record.get("started")) >= known.get(str(record.get("task_id")), ""):
                yield line


def _join(lines: Iterable[dict[str, Any]], target: Path) -> None:
    """One after another. Raises InfraError, NoSpace."""
    try:
        files.write(target, (f"{json.dumps(line)}\n".encode() for line in lines))
    except OSError as error:
        raise files.trouble(target, error) from error
