"""verdicts.json: the whole run in one document, written at its end, whole or not at all.

While a run over the whole manifest is under way, the document says so and holds no verdicts, so that nobody takes an
earlier run's verdicts for this one's. A run over a part of the manifest replaces the records of that part at its end
and leaves the others as they are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.gate import recorded
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record
from taskgate.reports.report import Report

# The document names at most this many runs over a part of the manifest.
PARTIAL_RUNS = 100


class Verdicts(Report):
    """Writes `path` for the run `run`."""

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run

    def begin(self, tally: Tally) -> None:
        if not _partial(tally) or not files.is_file(self._path):
            begin(self._path, tally, self._run)

    def finish(self, tally: Tally) -> None:
        if _partial(tally) and (earlier := _earlier(self._path, self._run)):
            update(self._path, tally, self._run, earlier)
        else:
            write(self._path, tally)


def begin(path: Path, tally: Tally, run: str) -> None:
    """Say that a run is under way, and drop the verdicts of earlier ones. Raises InfraError, NoSpace."""
    try:
        _write(path, Tally(manifest_ids=tally.manifest_ids), {"under_way": run})
    except InfraError:
        # A full disk has room for none at all.
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def write(path: Path, tally: Tally) -> None:
    """Write the document; tasks in the manifest's order. Raises InfraError, NoSpace."""
    _write(path, tally, {})


def update(path: Path, tally: Tally, run: str, earlier: dict[str, Any]) -> None:
    """Write the records of `tally`, a part of the manifest, over those of the `earlier` document. Raises InfraError,
    NoSpace."""
    whole = Tally(manifest_ids=tally.manifest_ids, scope=set(tally.manifest_ids))
    wanted = set(tally.manifest_ids)
    for row in earlier["tasks"]:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            record = Record.from_dict(row)
            if record.task_id in wanted:
                whole.add(record)
    for record in tally.records.values():
        whole.add(record)
    now = utc_now()
    partial = {"run": run, "finished": now, "tasks": sorted(tally.scope)}
    runs = earlier.get("partial_runs")
    runs = [*(runs if isinstance(runs, list) else []), partial][-PARTIAL_RUNS:]
    _write(path, whole, {"partial_runs": runs})


def _partial(tally: Tally) -> bool:
    return not tally.scope.issuperset(tally.manifest_ids)


def _earlier(path: Path, run: str) -> dict[str, Any] | None:
    """What the document holds, a killed run's journal included; None if there is nothing to keep."""
    try:
        document = files.read_document(path)
        if document.get("under_way") == run:
            return None
        return {"tasks": recorded.rows(path.parent), "partial_runs": document.get("partial_runs")}
    except (OSError, ValueError, AttributeError, RecursionError, UsageError):
        return None


def _write(path: Path, tally: Tally, more: dict[str, Any]) -> None:
    order = {task_id: number for number, task_id in enumerate(tally.manifest_ids)}
    records = sorted(tally.records.values(), key=lambda record: order.get(record.task_id, len(order)))
    document = {
        "version": 1,
        **more,
        "complete": tally.complete,
        "counts": tally.counts,
        "unchecked": tally.unchecked,
    }
    try:
        files.write(path, _pieces(document, records))
    except OSError as error:
        raise files.trouble(path, error) from error


def _pieces(document: dict[str, Any], records: list[Record]) -> Iterator[bytes]:
    # A record a line: to be read with other tools, and written in a third of the time that an indented one takes.
    yield f'{json.dumps(document)[:-1]}, "tasks": ['.encode()
    before = "\n"
    for record in records:
        yield f"{before}{json.dumps(record.as_dict())}".encode()
        before = ",\n"
    yield b"\n]}\n"
