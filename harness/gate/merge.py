"""Merges the parts of a run that was spread over machines, and proves that they are complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from taskgate.harness.gate import recorded
from taskgate.harness.gate.tally import Tally
from taskgate.harness.tasks.task import Task


@dataclass(slots=True)
class Merged:
    """`duplicates`: tasks that several parts judged, with those parts; `unexpected`: tasks that are not in the
    manifest, or not with this image."""

    tally: Tally
    duplicates: dict[str, list[str]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Every task of the manifest has one verdict, and nothing else has any."""
        return not (self.tally.missing or self.duplicates or self.unexpected)


def merge(parts: list[Path], tasks: Iterable[Task]) -> Merged:
    """Put the parts' verdicts together. `tasks`: the whole manifest's.

    Raises UsageError for a folder that is not part of a run, InfraError.
    """
    images = {task.id: task.image for task in tasks}
    merged = Merged(Tally(manifest_ids=list(images), scope=set(images)))
    origin = dict[str, str]()
    for part in parts:
        for record in recorded.records(part):
            if record.task_id in origin:
                merged.duplicates.setdefault(record.task_id, [origin[record.task_id]]).append(str(part))
            elif record.task_id not in images:
                merged.unexpected.append(record.task_id)
            elif record.image != images[record.task_id]:
                merged.unexpected.append(f"{record.task_id} with the image {record.image}")
            else:
                merged.tally.add(record)
            origin.setdefault(record.task_id, str(part))
    return merged
