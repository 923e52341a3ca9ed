"""verdicts.json: the whole run in one document, written at its end, whole or not at all. Until then it says that a run
is under way, so that nobody takes an earlier run's verdicts for this one's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import InfraError
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record


def begin(path: Path, tally: Tally, run: str) -> None:
    """Nothing is known yet, and no earlier run counts any more. Raises InfraError, NoSpace."""
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


def _write(path: Path, tally: Tally, more: dict[str, str]) -> None:
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
