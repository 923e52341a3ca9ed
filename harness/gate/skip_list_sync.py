"""What a run found out, onto the skip list: what is broken is added, what is sound again goes."""

from __future__ import annotations

from collections.abc import Mapping

from taskgate.checks._registry import ORDER
from taskgate.harness.gate.skip_entry import Entry, Sound
from taskgate.harness.gate.skip_list import SkipList
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict


def update(skip_list: SkipList, tally: Tally, run: str, *, before: Mapping[str, Entry] | None = None) -> None:
    """Write it. `before`: the list as the run began with it, where that is known. Raises SkipListError."""
    listed = skip_list.read()
    known = listed if before is None else before
    broken = [Entry.of(record, run) for record in tally.of([Verdict.BROKEN]) if _news(record, known)]
    gone = [
        sound
        for record in tally.of([Verdict.HEALTHY])
        if (entry := listed.get(record.task_id))
        and (sound := cleared(record, _older(entry, record) if before is None else before.get(record.task_id)))
        and sound.clears(entry)
    ]
    if broken or gone:
        skip_list.update(broken, gone)


def cleared(record: Record, seen: Entry | None) -> Sound | None:
    """What a healthy record may remove from the list; None where only a few checks ran: others may have added it."""
    names = frozenset(finding.check for finding in record.findings)
    if not names.issuperset(ORDER):
        return None
    if record.cached and seen:
        # The cache may be older than an entry that was there before this run.
        seen = _older(seen, record)
    return Sound(record.task_id, record.digest, names, seen, record.started or None)


def _news(record: Record, known: Mapping[str, Entry]) -> bool:
    """Was it found out, and not read off the list? What was on it, and is not any more, somebody took out."""
    if record.cached:
        # No findings: the list itself is where it is from.
        return bool(record.findings) and record.task_id not in known
    return record.check != "skip_list"


def _older(entry: Entry, record: Record) -> Entry | None:
    """An entry that a later verdict outdates."""
    return entry if (entry.last or "") < record.started else None
