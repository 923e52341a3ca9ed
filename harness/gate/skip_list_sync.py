"""Brings the skip list up to date with a run: broken tasks are added, entries of healthy ones removed."""

from __future__ import annotations

from collections.abc import Container, Mapping

from taskgate.checks import _registry as registry
from taskgate.harness.gate.skip_entry import PROVEN, Clearance, Entry
from taskgate.harness.gate.skip_list import SkipList
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict


def update(
    skip_list: SkipList,
    tally: Tally,
    run: str,
    *,
    before: Mapping[str, Entry] | None = None,
    unlisted: Container[str] = (),
) -> None:
    """Update the list. `before`: its entries when the run began, if known. `unlisted`: what these checks found is not
    listed. Raises SkipListError."""
    listed = skip_list.read()
    known = listed if before is None else before
    broken = [
        Entry.of(record, run)
        for record in tally.of([Verdict.BROKEN])
        if _news(record, known) and (record.check or "") not in unlisted
    ]
    outdated = [
        clearance
        for record in tally.of([Verdict.HEALTHY])
        if (entry := listed.get(record.task_id))
        and (clearance := cleared(record, _older(entry, record) if before is None else before.get(record.task_id)))
        and clearance.clears(entry)
    ]
    if broken or outdated:
        skip_list.update(broken, outdated)


def cleared(record: Record, seen: Entry | None) -> Clearance | None:
    """What a healthy record may remove from the list; None where only a few checks ran: others may have added it."""
    names = frozenset(finding.check for finding in record.findings)
    if seen and seen.check in PROVEN and any(name.startswith("gold-") for name in names):
        # Proven again, and solvable now.
        return Clearance(record.task_id, record.digest, PROVEN, seen, record.started or None)
    if not names >= registry.packaged():
        return None
    if record.cached and seen:
        # The cache may be older than an entry that was there before this run.
        seen = _older(seen, record)
    return Clearance(record.task_id, record.digest, names, seen, record.started or None)


def _news(record: Record, known: Mapping[str, Entry]) -> bool:
    """Was it judged, not read from the list? An entry that was there before and is gone now was removed by someone."""
    if record.cached:
        # A record without findings comes from the list itself.
        return bool(record.findings) and record.task_id not in known
    return record.check != "skip_list"


def _older(entry: Entry, record: Record) -> Entry | None:
    """The entry, if the verdict is later."""
    return entry if (entry.last or "") < record.started else None
