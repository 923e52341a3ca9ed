"""A run's folder: what is where, and how a task's results get there in one piece."""

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
from taskgate.harness.base.out_files import RESULT
from taskgate.harness.runner import driver

# Behind an attempt's name: the results that it takes the place of, which is its name without what mkdtemp put there.
OLD = ".old"


class Results:
    """The folder `out`. What is in the making stands in `out/.running`, until a rename."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._running = out / ".running"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For one run at a time; clears away what a killed one left. Raises UsageError, InfraError."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with FileLock(self.out / ".lock", blocking=False):
                driver.end_leftovers(self._running)
                self._finish()
                shutil.rmtree(self._running, ignore_errors=True)
                self._running.mkdir(exist_ok=True)
                try:
                    yield
                finally:
                    shutil.rmtree(self._running, ignore_errors=True)
        except Timeout as error:
            raise UsageError(f"another run is at work in {self.out}", field="--out") from error
        except OSError as error:
            raise files.trouble(self.out, error) from error

    def folder(self, task_id: str) -> Path:
        return self.out / folder_name(task_id)

    def fresh(self, task_id: str) -> Path:
        """An empty folder for an attempt. While the agent works, its log grows in there."""
        return Path(tempfile.mkdtemp(prefix=f"{folder_name(task_id)}.", dir=self._running))

    def settle(self, task_id: str, fresh: Path) -> None:
        """An attempt's folder becomes the task's, in place of an older one. Raises OSError."""
        target, old = self.folder(task_id), fresh.with_name(f"{fresh.name}{OLD}")
        fresh.chmod(0o755)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def _finish(self) -> None:
        """A run may have been killed when a task's older results had gone and its new ones had not come. OSError."""
        for old in self._running.glob(f"*{OLD}"):
            fresh = old.with_suffix("")
            target = self.out / fresh.stem
            if not target.exists():
                (fresh if fresh.exists() else old).rename(target)

    def result(self, task_id: str) -> dict[str, Any] | None:
        """What is recorded of the task's last attempt; None where nothing readable is."""
        try:
            told = json.loads((self.folder(task_id) / RESULT).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return told if isinstance(told, dict) and told.get("task_id") == task_id else None
