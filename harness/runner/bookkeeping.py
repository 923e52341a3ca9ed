"""What a run writes down as it goes: verdicts, the skip list, the journal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from taskgate.harness.base.errors import TaskgateError
from taskgate.harness.base.files import Lines
from taskgate.harness.base.out_files import JOURNAL
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.gate import skip_list_sync
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.population import CommonFailure, common_failures
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import SkipList
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.states import TaskResult
from taskgate.harness.tasks.task import Task


class Bookkeeping:
    """Thread-safe. A file that can't be written is no reason to end agents that cost hours: it is reported at the
    end."""

    def __init__(self, results: Results, cache: VerdictCache, skip_list: SkipList, session: str) -> None:
        self._cache, self._skip_list, self._session = cache, skip_list, session
        self._journal = Lines(results.out / JOURNAL)
        self._writing = threading.Lock()
        self._problems: dict[str, None] = {}
        self._judged: dict[str, Record] = {}
        # What nearly all images fail in alike; known once the run is over.
        self.common_failures: list[CommonFailure] = []

    @property
    def problems(self) -> list[str]:
        """What could not be written, each once."""
        return list(self._problems)

    def verdict(self, record: Record, gate: Gate) -> None:
        """A fresh verdict goes where the gate's own go."""
        if record.check == "skip_list":
            return
        entry = gate.skips.get(record.task_id)
        with self._writing, self._noted("verdicts are not cached"):
            self._cache.put(record)
        with self._writing, self._noted("the skip list was not updated"):
            self._judged[record.task_id] = record
            if record.verdict is Verdict.HEALTHY and entry and not entry.by_hand:
                sound = skip_list_sync.cleared(record, entry)
                self._skip_list.update([], [sound] if sound else [])

    def list_broken(self, tasks: Mapping[str, Task], *, trust_common_failures: bool) -> None:
        """At the end: list broken images, in the manifest's order, unless nearly all images fail alike."""
        self.common_failures = common_failures(self._judged.values(), tasks)
        judged = (record for task_id in tasks if (record := self._judged.get(task_id)))
        broken = [record for record in judged if record.verdict is Verdict.BROKEN]
        if broken and (trust_common_failures or not self.common_failures):
            with self._writing, self._noted("the skip list was not updated"):
                self._skip_list.update([Entry.of(record, self._session) for record in broken], [])

    def result(self, result: TaskResult) -> None:
        """A line of the journal."""
        line = {
            "task_id": result.task.id,
            "state": str(result.state),
            # For those who read journals of version 0.1.
            "what": result.state.label,
            "reason": result.reason,
            "config": result.config,
            "seconds": round(result.seconds, 3),
            "calls": result.calls,
            "engine": result.engine,
            "started": result.started,
            "run": self._session,
            "when": utc_now(),
        }
        with self._writing, self._noted("the journal lacks lines"):
            self._journal.append(line)

    @contextlib.contextmanager
    def _noted(self, consequence: str) -> Iterator[None]:
        try:
            yield
        except (TaskgateError, OSError) as error:
            self._problems[f"{consequence}: {error}"] = None
