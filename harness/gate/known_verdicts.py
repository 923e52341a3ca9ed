"""Verdicts from before: what the cache and the skip list say of a task, as far as it still holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from taskgate.checks import _registry as registry
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.skip_entry import PROVEN, Entry
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.tasks.task import Task


class Verdicts(Protocol):
    """As a VerdictCache is asked."""

    def get(self, task_id: str, digest: str, fingerprint: str) -> Record | None: ...

    def remembers(self, task_id: str, fingerprint: str) -> bool: ...


class KnownVerdicts:
    """`entries`: the skip list by task id; `list_name`: how a reader finds it. Entries hold for `max_age`; None: for
    ever."""

    def __init__(
        self,
        cache: Verdicts | None = None,
        entries: dict[str, Entry] | None = None,
        *,
        max_age: timedelta | None = None,
        list_name: str = "",
    ) -> None:
        self.entries = entries or {}
        self._cache, self._max_age, self._list_name = cache, max_age, list_name

    def know(self, cache: Verdicts | None, entries: dict[str, Entry]) -> None:
        """Replace what is known, as a node of a cluster does before each task."""
        self._cache, self.entries = cache, entries

    @property
    def empty(self) -> bool:
        return not (self.entries or self._cache)

    def by_hand(self, task: Task) -> Record | None:
        """The record on a task that somebody put on the list by hand: it holds for every image."""
        entry = self.entries.get(task.id)
        return self._listed(task, entry) if entry and entry.by_hand else None

    def get(self, task: Task, digest: str, fingerprint: str) -> Record | None:
        """The record on a task with this very image and these settings; the newer one where there are two."""
        record = self._cache.get(task.id, digest, fingerprint) if self._cache else None
        entry = self._entry(task, fingerprint)
        if entry and entry.digest == digest and (record is None or record.started < (entry.last or "")):
            return self._listed(task, entry)
        return record

    def may_hold(self, task: Task, fingerprint: str) -> bool:
        """Is there a record with these settings, which holds if the image is the same one?"""
        if self._cache and self._cache.remembers(task.id, fingerprint):
            return True
        entry = self._entry(task, fingerprint)
        return bool(entry and entry.digest)

    def _entry(self, task: Task, fingerprint: str) -> Entry | None:
        entry = self.entries.get(task.id)
        # What was proven of a task depends on its tests and its solution, not on the gate's checks.
        same = entry and (entry.fingerprint == fingerprint or entry.check in PROVEN)
        return entry if entry and same and self._fresh(entry) else None

    def _fresh(self, entry: Entry) -> bool:
        if self._max_age is None:
            return True
        oldest = datetime.now(UTC) - self._max_age
        return (entry.last or "") >= oldest.isoformat(timespec="milliseconds")

    def _listed(self, task: Task, entry: Entry) -> Record:
        record = new_record(task, Verdict.BROKEN, digest=entry.digest)
        record.cached, record.check, record.fingerprint = True, entry.check or "skip_list", entry.fingerprint
        record.reason = entry.reason or f"listed by hand in {self._list_name}"
        check = registry.declared(entry.check or "")
        record.hint = check.hint if check else "Remove the line from the skip list to have the image checked."
        return record
