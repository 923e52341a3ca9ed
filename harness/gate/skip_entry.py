"""An entry of the skip list, and what removes it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from taskgate.harness.base.errors import SkipListError
from taskgate.harness.base.names import CONFLICT
from taskgate.harness.gate.verdict import Record


@dataclass(frozen=True, slots=True)
class Entry:
    """A task on the list. Dates are ISO 8601 in UTC; `fingerprint` is that of task settings and checks."""

    task_id: str
    check: str | None = None
    reason: str | None = None
    image: str | None = None
    digest: str | None = None
    fingerprint: str | None = None
    first: str | None = None
    last: str | None = None
    run: str | None = None

    @classmethod
    def of(cls, record: Record, run: str) -> Entry:
        """The entry for a broken image."""
        return cls(
            record.task_id,
            check=record.check,
            reason=record.reason,
            image=record.image,
            digest=record.digest,
            fingerprint=record.fingerprint,
            # An entry that is there already keeps its own, earlier one.
            first=record.started,
            last=record.started,
            run=run,
        )

    @property
    def by_hand(self) -> bool:
        """Nothing but the id is known: it was written by hand, and is kept for ever."""
        return not self.known()

    def known(self) -> dict[str, str]:
        """The fields besides the id that are set."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None and k != "task_id"}


# Entries that a proof made: only another proof removes them.
PROVEN = frozenset({"unsolvable", "trivial", "flaky"})
# Entries that no check made: an injection that failed, and entries that lost their fields.
UNCHECKED = (None, "injection")


@dataclass(frozen=True, slots=True)
class Clearance:
    """A task whose image is healthy: which entries the list may drop.

    `checks` are those that ran, `seen` is the entry that was there when the run began, `judged` is when the verdict was
    reached (ISO 8601, UTC; None: later than any entry).
    """

    task_id: str
    digest: str | None
    checks: frozenset[str]
    seen: Entry | None = None
    judged: str | None = None

    def clears(self, entry: Entry) -> bool:
        """Is `entry` outdated? Not by checks that did not run, and not where it is the newer statement."""
        if entry.by_hand or (entry.check not in UNCHECKED and entry.check not in self.checks):
            return False
        if entry == self.seen:
            return True
        older = self.judged is None or (entry.last or "") <= self.judged
        return older and entry.digest is not None and entry.digest == self.digest


def outweighs(entry: Entry, other: Entry) -> bool:
    """Is `entry` the newer of two statements about the same digest?"""
    same = entry.digest is not None and entry.digest == other.digest
    return same and (entry.last or "") > (other.last or "")


def check_id(task_id: str, where: str) -> None:
    """Refuse an id that can't be a line of its own, or that git would take for a conflict. Raises SkipListError."""
    bad = task_id != task_id.strip() or not task_id.isprintable() or task_id.startswith("#") or CONFLICT.match(task_id)
    if not task_id or bad:
        raise SkipListError(f"{task_id!r} can't stand on a line of its own", file=where)
