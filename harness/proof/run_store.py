"""`runs.jsonl`: every run of a proof as it ends, so that a proof goes on where it was interrupted."""

from __future__ import annotations

import threading
from pathlib import Path

from taskgate.harness.base.files import Lines, read_lines
from taskgate.harness.proof.run import Run

RUNS = "runs.jsonl"
Key = tuple[str, str, str]


class RunStore:
    """Append-only and shared by processes. A run counts for one task, image digest and fingerprint."""

    def __init__(self, out: Path) -> None:
        """Raises InfraError where the file can't be read."""
        self._lines, self._lock = Lines(out / RUNS), threading.Lock()
        self._known: dict[Key, list[Run]] = {}
        for line in read_lines(out / RUNS):
            try:
                key = (str(line["task_id"]), str(line["digest"]), str(line["fingerprint"]))
                self._known.setdefault(key, []).append(Run.from_dict(line["run"]))
            except (KeyError, TypeError, ValueError):
                # A damaged line costs its run alone.
                continue

    def runs(self, key: Key) -> list[Run]:
        """The completed runs of earlier and of this process, in order. What is incomplete is tried again."""
        with self._lock:
            return [run for run in self._known.get(key, ()) if run.completed]

    def add(self, key: Key, run: Run) -> None:
        """Raises InfraError, NoSpace."""
        task_id, digest, fingerprint = key
        with self._lock:
            self._lines.append({"task_id": task_id, "digest": digest, "fingerprint": fingerprint, "run": run.as_dict()})
            self._known.setdefault(key, []).append(run)
