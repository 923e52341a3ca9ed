"""The skip list as a text file: one bare id a line."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from taskgate.harness.base import files
from taskgate.harness.base.errors import SkipListError
from taskgate.harness.base.names import CONFLICT
from taskgate.harness.gate.skip_entry import Clearance, Entry, check_id, outweighs

LOCK_SECONDS = 60
FIELDS = {field.name for field in dataclasses.fields(Entry)}


class TextSkipList:
    """One bare id a line, usable by `grep`; a `# {…}` line above it holds what is known.

    Everything else in the file (comments, blank lines, ids by hand) stays as and where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for _, entry in self._blocks(self._lines()):
            # If an id is there twice (a merge may do that), the entry by hand counts.
            if entry and not (entry.task_id in entries and entries[entry.task_id].by_hand):
                entries[entry.task_id] = entry
        return entries

    def update(self, add: Iterable[Entry], remove: Iterable[str | Clearance]) -> None:
        adding = {entry.task_id: entry for entry in add}
        removing = {item if isinstance(item, str) else item.task_id: item for item in remove}
        for task_id in adding:
            check_id(task_id, str(self.path))
        # A list that can't be read is reported before a folder or a lock is created.
        if not (adding or removing) or not (self._lines() or adding):
            return
        self._rewrite(lambda lines: self._merged(lines, adding, removing))

    def discard(self, ids: Iterable[str]) -> None:
        unwanted = set(ids)
        if self._lines():
            self._rewrite(lambda lines: self._without(lines, unwanted))

    def _without(self, old: list[str], unwanted: set[str]) -> list[str]:
        kept = (lines for lines, entry in self._blocks(old) if not (entry and entry.task_id in unwanted))
        return [line for lines in kept for line in lines]

    def _rewrite(self, change: Callable[[list[str]], list[str]]) -> None:
        """Replace the file's lines under its lock. Raises SkipListError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            target = self.path.resolve()
            with FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_SECONDS):
                old = self._lines()
                new = change(old)
                if new != old:
                    files.write(target, "".join(f"{line}\n" for line in new).encode())
        except Timeout as error:
            raise SkipListError(f"another job has held its lock for {LOCK_SECONDS} s", file=str(self.path)) from error
        except (OSError, RuntimeError) as error:
            # RuntimeError: before Python 3.13, symlinks that go in a circle.
            reason = getattr(error, "strerror", None) or error
            raise SkipListError(f"can't be written: {reason}", file=str(self.path)) from error

    def _merged(self, old: list[str], adding: dict[str, Entry], removing: dict[str, str | Clearance]) -> list[str]:
        new: list[str] = []
        adding, written = dict(adding), set[str]()
        for lines, entry in self._blocks(old):
            if entry and not entry.by_hand and entry.task_id in written:
                continue
            if entry and not entry.by_hand and entry.task_id in adding:
                written.add(entry.task_id)
                fresh = adding.pop(entry.task_id)
                newest = entry if outweighs(entry, fresh) else fresh
                new += _written(dataclasses.replace(newest, first=entry.first or fresh.first))
            elif entry and not entry.by_hand and _is_removed(entry, removing.get(entry.task_id)):
                continue
            else:
                new += lines
                if entry:
                    adding.pop(entry.task_id, None)
        for entry in adding.values():
            new += _written(entry)
        return new

    def _lines(self) -> list[str]:
        try:
            # A pipe would wait for ever, and a device such as /dev/null would be replaced by a file.
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise SkipListError("can't be read: not a regular file", file=str(self.path))
            text = self.path.read_bytes().decode()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SkipListError(f"can't be read: {error.strerror}", file=str(self.path)) from error
        except UnicodeDecodeError as error:
            place = error.object[: error.start].count(b"\n") + 1
            raise SkipListError("is not UTF-8 text", file=str(self.path), line=place) from error
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        for number, line in enumerate(lines, 1):
            if CONFLICT.match(line):
                raise SkipListError("a merge conflict is not resolved", file=str(self.path), line=number)
            if "\0" in line:
                raise SkipListError("a NUL byte: the file is damaged", file=str(self.path), line=number)
        return lines

    def _blocks(self, lines: list[str]) -> Iterable[tuple[list[str], Entry | None]]:
        """Lines that belong together, and the entry that they make; None for comments and blank lines."""
        above: str | None = None
        for line in lines:
            known = _known(line)
            # Some editors begin a file with a byte order mark.
            task_id = line.removeprefix("\ufeff").strip()
            if known is not None:
                if above is not None:
                    yield [above], None
                above = line
                continue
            if not task_id or task_id.startswith("#"):
                if above is not None:
                    yield [above], None
                    above = None
                yield [line], None
                continue
            if above is not None:
                known = _known(above) or {}
                if known.pop("task_id", task_id) == task_id:
                    yield [above, line], Entry(task_id, **known)
                else:
                    # Its own id was removed or changed: this line was written by hand.
                    yield [above], None
                    yield [line], Entry(task_id)
                above = None
            else:
                yield [line], Entry(task_id)
        if above is not None:
            yield [above], None


def _is_removed(entry: Entry, removing: str | Clearance | None) -> bool:
    return removing.clears(entry) if isinstance(removing, Clearance) else removing is not None


def _known(line: str) -> dict[str, str] | None:
    """The fields of a `# {…}` line of ours; None for every other line."""
    if not line.startswith("# {"):
        return None
    try:
        known = json.loads(line[2:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(known, dict):
        return None
    known = {k: v for k, v in known.items() if k in FIELDS and isinstance(v, str)}
    return known if known.keys() - {"task_id"} else None


def _written(entry: Entry) -> list[str]:
    if entry.by_hand:
        return [entry.task_id]
    # ASCII: no reason, whatever an image printed, can break the line or the encoding.
    return [f"# {json.dumps({'task_id': entry.task_id, **entry.known()})}", entry.task_id]
