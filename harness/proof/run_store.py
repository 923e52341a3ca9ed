"""`runs.jsonl`: every run of a proof as it ends, so that a proof goes on where it was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from taskgate.harness.base.files import Lines, read_lines
from taskgate.harness.proof.run import Run

RUNS = "runs.jsonl"
Key = tuple[str, str, str]


def runs_by_task(out: Path) -> dict[str, list[Run]]:
    """The completed runs of each task's newest image and settings. Raises InfraError."""
    newest: dict[str, tuple[Key, list[Run]]] = {}
    for key, run in _read(out):
        task_id = key[0]
        if run is None or task_id not in newest or newest[task_id][0] != key:
            newest[task_id] = (key, [])
        if run and run.completed:
            newest[task_id][1].append(run)
    return {task_id: runs for task_id, (_, runs) in newest.items()}


def _read(out: Path) -> Iterator[tuple[Key, Run | None]]:
    """The lines' runs; None where the earlier ones no longer count."""
    for line in read_lines(out / RUNS):
        try:
            key = (str(line["task_id"]), str(line["digest"]), str(line["fingerprint"]))
            yield key, Run.from_dict(line["run"]) if line["run"] is not None else None
        except (KeyError, TypeError, ValueError):
            # A damaged line costs its run alone.
            continue


class RunStore:
    """Append-only and shared by processes. A run counts for one task, image digest and fingerprint."""

    def __init__(self, out: Path) -> None:
        """Raises InfraError where the file can't be read."""
        self._lines, self._lock = Lines(out / RUNS), threading.Lock()
        self._known: dict[Key, list[Run]] = {}
        for key, run in _read(out):
            if run is None:
                self._known.pop(key, None)
            else:
                self._known.setdefault(key, []).append(run)

    def runs(self, key: Key) -> list[Run]:
        """The completed runs of earlier and of this process, in order. What is incomplete is tried again."""
        with self._lock:
            return [run for run in self._known.get(key, ()) if run.completed]

    def add(self, key: Key, run: Run) -> None:
        """Raises InfraError, NoSpace."""
        with self._lock:
            self._lines.append(_line(key, run))
            self._known.setdefault(key, []).append(run)

    def forget(self, key: Key) -> None:
        """Earlier runs no longer count, not even after this process is killed. Raises InfraError, NoSpace."""
        with self._lock:
            if self._known.pop(key, None):
                self._lines.append(_line(key, None))


def _line(key: Key, run: Run | None) -> dict[str, object]:
    task_id, digest, fingerprint = key
    return {
        "task_id": task_id,
        "digest": digest,
        "fingerprint": fingerprint,
        "run": run.as_dict() if run else None,
    }
