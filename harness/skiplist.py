"""The skip list: which tasks are known to be broken, and why. A text file here; a database in skiptable."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from taskgate.harness import files
from taskgate.harness.errors import SkipListError

LOCK_SECONDS = 60
CONFLICT = re.compile(r"(?:<{7}|={7}|>{7}|\|{7})(?:\s|$)")


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

    @property
    def by_hand(self) -> bool:
        """Nothing but the id is known: somebody wrote it, and it is kept for ever."""
        return not self.known()

    def known(self) -> dict[str, str]:
        """What is known besides the id."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None and k != "task_id"}


class SkipList(Protocol):
    def read(self) -> dict[str, Entry]:
        """All entries by task id. Raises SkipListError."""
        ...

    def update(self, add: Iterable[Entry], remove: Iterable[str]) -> None:
        """Merge into what others wrote meanwhile; entries by hand stay as they are. Raises SkipListError."""
        ...


def open_skip_list(where: str) -> SkipList:
    """The list at a path, or in the database that a URL (`sqlite:///…`, `postgresql://…`) names."""
    if "://" in where:
        from taskgate.harness.skiptable import TableSkipList

        return TableSkipList(where)
    return TextSkipList(Path(where))


class TextSkipList:
    """One bare id a line, usable by `grep`; a `# {…}` line above it holds what is known.

    Everything else in the file (comments, blank lines, ids by hand) stays as and where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Entry]:
        return {entry.task_id: entry for _, entry in self._blocks(self._lines()) if entry}

    def update(self, add: Iterable[Entry], remove: Iterable[str]) -> None:
        adding, removing = {entry.task_id: entry for entry in add}, set(remove)
        for task_id in adding:
            if not task_id or task_id != task_id.strip() or task_id.startswith("#") or not task_id.isprintable():
                raise SkipListError(f"{task_id!r} can't stand on a line of its own", file=str(self.path))
        if not adding and (not removing or not self.path.exists()):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            target = self.path.resolve()
            with FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_SECONDS):
                old = self._lines()
                new = self._merged(old, adding, removing)
                if new != old:
                    files.write(target, "".join(f"{line}\n" for line in new).encode())
        except Timeout as error:
            raise SkipListError(f"another job has held its lock for {LOCK_SECONDS} s", file=str(self.path)) from error
        except OSError as error:
            raise SkipListError(f"can't be written: {error.strerror or error}", file=str(self.path)) from error

    def _merged(self, old: list[str], adding: dict[str, Entry], removing: set[str]) -> list[str]:
        new: list[str] = []
        for lines, entry in self._blocks(old):
            if entry and not entry.by_hand and entry.task_id in adding:
                fresh = adding.pop(entry.task_id)
                new += _written(dataclasses.replace(fresh, first=entry.first or fresh.first))
            elif entry and not entry.by_hand and entry.task_id in removing:
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
            task_id = line.strip()
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
                yield [above, line], Entry(task_id, **(_known(above) or {}))
                above = None
            else:
                yield [line], Entry(task_id)
        if above is not None:
            yield [above], None


FIELDS = {field.name for field in dataclasses.fields(Entry)} - {"task_id"}


def _known(line: str) -> dict[str, str] | None:
    """What a `# {…}` line of ours says; None for every other line."""
    if not line.startswith("# {"):
        return None
    try:
        known = json.loads(line[2:])
    except ValueError:
        return None
    if not isinstance(known, dict):
        return None
    return {k: v for k, v in known.items() if k in FIELDS and isinstance(v, str)} or None


def _written(entry: Entry) -> list[str]:
    # ASCII: no reason, whatever an image printed, can break the line or the encoding.
    return [f"# {json.dumps(entry.known())}", entry.task_id]
