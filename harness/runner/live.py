"""The agents at work in a run's folder, as far as its files tell: for the run itself and for anybody who looks on."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taskgate.harness.base.out_files import CALLS, LOG, RESULT
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.results import Results

TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class LiveAgent:
    """An agent at work: since when (seconds), on which engine, calls of its endpoint so far (None: it has none), and
    the last line that it printed."""

    task_id: str
    seconds: float
    engine: str
    calls: int | None
    line: str


class LiveView:
    """Reads the folder again and again; what was counted once is not counted anew."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._counted: dict[Path, tuple[int, int]] = {}

    def agents(self) -> list[LiveAgent]:
        """All agents at work, the one that was started first at the top."""
        agents, folders = [], self._results.running()
        for folder in folders:
            record = AttemptRecord.read(folder)
            if record is None or record.container is None or (folder / RESULT).exists():
                continue
            agents.append(
                LiveAgent(
                    record.task_id,
                    _elapsed(record.started),
                    record.engine,
                    self._calls(folder / CALLS),
                    last_line(folder / LOG),
                )
            )
        self._counted = {path: counted for path, counted in self._counted.items() if path.parent in folders}
        return sorted(agents, key=lambda agent: -agent.seconds)

    def _calls(self, path: Path) -> int | None:
        """The lines of a file that only grows."""
        with contextlib.suppress(OSError), path.open("rb") as file:
            at, lines = self._counted.get(path, (0, 0))
            file.seek(at)
            while data := file.read(1 << 20):
                at, lines = at + len(data), lines + data.count(b"\n")
            self._counted[path] = (at, lines)
            return lines
        return None


def folders_of(results: Results, task_id: str) -> list[Path]:
    """The folders of the attempts at a task that are under way."""
    return [
        folder for folder in results.running() if (record := AttemptRecord.read(folder)) and record.task_id == task_id
    ]


def last_line(path: Path) -> str:
    """The last line of a log that is not blank; empty where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
    return ""


def _elapsed(started: str) -> float:
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds())
    return 0.0
