"""verdicts.json: the whole run in one document, written at its end, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from taskgate.harness import files
from taskgate.reports.tally import Tally


def write(path: Path, tally: Tally) -> None:
    """Write the document; tasks in the manifest's order. Raises InfraError, NoSpace."""
    order = {task_id: number for number, task_id in enumerate(tally.manifest_ids)}
    records = sorted(tally.records.values(), key=lambda record: order.get(record.task_id, len(order)))
    document = {
        "version": 1,
        "complete": tally.complete,
        "counts": tally.counts,
        "unchecked": tally.unchecked,
        "tasks": [record.as_dict() for record in records],
    }
    try:
        files.write(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise files.trouble(path, error) from error
