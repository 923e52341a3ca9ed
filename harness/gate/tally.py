"""What one run knows so far: the controller's tally that journal, HTML and summary are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from taskgate.harness.gate.verdict import Outcome, Record, Verdict

Group = tuple[str, str, list[str]]


@dataclass(slots=True)
class Tally:
    """`manifest_ids`: every task of the manifest (or its shard). `scope`: those selected for this run."""

    manifest_ids: list[str] = field(default_factory=list)
    scope: set[str] = field(default_factory=set)
    records: dict[str, Record] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.records[record.task_id] = record

    @property
    def counts(self) -> dict[str, int]:
        """Records by verdict, in the order of the Verdict enum, zeros included."""
        counter = Counter(str(record.verdict) for record in self.records.values())
        return {str(verdict): counter[str(verdict)] for verdict in Verdict}

    @property
    def unchecked(self) -> list[str]:
        """Tasks of the manifest without a record, in the manifest's order."""
        return [task_id for task_id in self.manifest_ids if task_id not in self.records]

    @property
    def complete(self) -> bool:
        """Every task of the manifest is known to be healthy or broken."""
        counts = self.counts
        return not self.unchecked and not counts["incompatible"] and not counts["infra"]

    @property
    def missing(self) -> set[str]:
        """Tasks in this run's scope that have no verdict on the image: the gate fails closed on them."""
        return {task_id for task_id in self.scope if task_id not in self.records} | {
            record.task_id
            for record in self.records.values()
            if record.verdict in (Verdict.INFRA, Verdict.INCOMPATIBLE)
        }

    def of(self, verdicts: Iterable[Verdict]) -> list[Record]:
        wanted = set(verdicts)
        return [record for record in self.records.values() if record.verdict in wanted]

    def grouped(self, verdict: Verdict) -> list[Group]:
        """(check, reason, task ids) of the records with this verdict, the most frequent first."""
        return _grouped((r.check or "", r.reason or "", r.task_id) for r in self.of([verdict]))

    def warnings(self) -> list[Group]:
        """(check, reason, task ids) of all warnings."""
        return _grouped(
            (finding.check, finding.reason or "", record.task_id)
            for record in self.records.values()
            for finding in record.findings
            if finding.outcome is Outcome.WARN
        )


def _grouped(rows: Iterable[tuple[str, str, str]]) -> list[Group]:
    groups: dict[tuple[str, str], list[str]] = {}
    for check, reason, task_id in rows:
        groups.setdefault((check, reason), []).append(task_id)
    grouped = [(check, reason, ids) for (check, reason), ids in groups.items()]
    return sorted(grouped, key=lambda group: (-len(group[2]), group[0], group[1]))
