"""A run's folder: where everything is, and how a task's results get there in one piece.

OUT/TASK/                 the task's result: result.json, agent.log and the agent's files
OUT/TASK/attempts/N/      its other attempts, in the order in which they ended
OUT/.running/TASK.XXXX/   an attempt under way
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.names import folder_name
from taskgate.harness.base.out_files import ATTEMPT, RESULT
from taskgate.harness.runner import artifacts, driver
from taskgate.harness.runner.states import TaskState

RUNNING, ATTEMPTS = ".running", "attempts"
# Version 0.1 moved a task's older results aside under this suffix.
OLD = ".old"


class Results:
    """The folder `out`. An attempt's folder stands in `out/.running` until it is settled by a rename."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._running = out / RUNNING

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For one run at a time; settles what a killed run had recorded. Raises UsageError, InfraError."""
        lock = FileLock(self.out / ".lock")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UsageError(f"another run is at work in {self.out}", field="--out") from error
        except OSError as error:
            raise files.trouble(self.out, error) from error
        try:
            try:
                driver.end_leftovers(self._running)
                self._finish()
                self._running.mkdir(exist_ok=True)
            except OSError as error:
                raise files.trouble(self.out, error) from error
            yield
        finally:
            self._tidy()
            lock.release()

    def busy(self) -> bool:
        """Is a run at work in the folder?"""
        try:
            with FileLock(self.out / ".lock", blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def folder(self, task_id: str) -> Path:
        return self.out / folder_name(task_id)

    def fresh(self, task_id: str) -> Path:
        """An empty folder for an attempt. While the agent works, its log grows in there. Raises OSError."""
        self._running.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{folder_name(task_id)}.", dir=self._running))

    def record(self, fresh: Path, record: dict[str, Any]) -> None:
        """Write down how an attempt ended. From now on it is settled even after a kill. Raises OSError."""
        # A driver may have left anything there.
        if (fresh / ATTEMPTS).is_dir() and not (fresh / ATTEMPTS).is_symlink():
            shutil.rmtree(fresh / ATTEMPTS)
        else:
            (fresh / ATTEMPTS).unlink(missing_ok=True)
        files.write(fresh / RESULT, json.dumps(record, indent=1).encode())
        (fresh / ATTEMPT).unlink(missing_ok=True)

    def settle(self, task_id: str, fresh: Path) -> None:
        """A recorded attempt's folder becomes the task's result; the one that was there becomes one of its attempts.

        An attempt that did not complete never takes the place of one that did, nor does one that was started earlier:
        it becomes one of its attempts.
        Raises OSError; both are there then, and the next start tries again.
        """
        target = self.folder(task_id)
        fresh.chmod(0o755)
        if not target.exists():
            fresh.rename(target)
        elif _completed(target) and (not _completed(fresh) or _started(fresh) < _started(target)):
            (target / ATTEMPTS).mkdir(exist_ok=True)
            fresh.rename(_next(target / ATTEMPTS))
        else:
            _replace(target, fresh)

    def result(self, task_id: str) -> dict[str, Any] | None:
        """The record of the task's result; None where nothing readable is."""
        return _record(self.folder(task_id), task_id)

    def attempts(self, task_id: str) -> list[Path]:
        """The folders of all settled attempts at a task, the one that was started last first."""
        folders = [self.folder(task_id), *_numbered(self.folder(task_id) / ATTEMPTS).values()]
        records = [(folder, record) for folder in folders if (record := _record(folder, task_id))]
        records.sort(key=lambda entry: str(entry[1].get("started")), reverse=True)
        return [folder for folder, _ in records]

    def last(self, task_id: str) -> dict[str, Any] | None:
        """The record of the attempt that was started last, which need not be the task's result."""
        return next((_record(folder, task_id) for folder in self.attempts(task_id)), None)

    def running(self) -> list[Path]:
        """The folders of attempts that are under way, or that a killed run left. Sorted by name."""
        with contextlib.suppress(OSError):
            return sorted(path for path in self._running.iterdir() if path.is_dir() and not path.is_symlink())
        return []

    def discard(self, fresh: Path) -> None:
        """Remove an attempt's folder."""
        shutil.rmtree(fresh, ignore_errors=True)

    def _finish(self) -> None:
        """Settle what was recorded and not yet in its place. Raises OSError."""
        for fresh in self.running():
            record = _record(fresh)
            if record and fresh.suffix != OLD:
                self.settle(str(record["task_id"]), fresh)
        for old in self._running.glob(f"*{OLD}"):
            target = self.out / old.with_suffix("").stem
            if not target.exists():
                old.rename(target)

    def _tidy(self) -> None:
        """At a run's end: only what the next start can still make use of stays."""
        with contextlib.suppress(OSError):
            self._finish()
        for fresh in self.running():
            if not (fresh / RESULT).exists() and not (fresh / ATTEMPT).exists():
                self.discard(fresh)
        if not self.running():
            shutil.rmtree(self._running, ignore_errors=True)


def _replace(target: Path, fresh: Path) -> None:
    """`fresh` takes the place of `target`, which becomes one of its attempts. Raises OSError; nothing is lost then."""
    kept = fresh / ATTEMPTS
    if (target / ATTEMPTS).is_dir() and not kept.exists():
        (target / ATTEMPTS).rename(kept)
    kept.mkdir(exist_ok=True)
    aside = _next(kept)
    target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        # The older result must not be missing because the newer one can't get there.
        with contextlib.suppress(OSError):
            aside.rename(target)
            kept.rename(target / ATTEMPTS)
        raise


def _completed(folder: Path) -> bool:
    """Does it hold a completed attempt, its files as they were recorded?"""
    record = _record(folder)
    try:
        return bool(
            record
            and record.get("status") == TaskState.DONE
            and artifacts.changed(folder, record.get("artifacts")) is None
        )
    except OSError:
        # What can't be read now may be whole.
        return True


def _started(folder: Path) -> str:
    return str((_record(folder) or {}).get("started"))


def _record(folder: Path, task_id: str | None = None) -> dict[str, Any] | None:
    """The record in `folder`, if it is one (of that task); None otherwise."""
    try:
        record = files.read_document(folder / RESULT)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("task_id"), str):
        return None
    return record if task_id is None or record["task_id"] == task_id else None


def _numbered(attempts: Path) -> dict[int, Path]:
    with contextlib.suppress(OSError):
        return {int(path.name): path for path in attempts.iterdir() if path.name.isascii() and path.name.isdigit()}
    return {}


def _next(attempts: Path) -> Path:
    return attempts / str(max(_numbered(attempts), default=0) + 1)
