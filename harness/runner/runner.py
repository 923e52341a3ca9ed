"""A run: every task that is worth it, once, N at a time, stopped and started again as often as need be."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import (
    EngineUnavailable,
    ImageChanged,
    ImageNotFound,
    InfraError,
    Interrupted,
    PlatformUnavailable,
    TaskgateError,
)
from taskgate.harness.base.files import Lines
from taskgate.harness.base.out_files import JOURNAL, RESULT
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import skip_list_sync
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.population import CommonFailure, common_failures
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import SkipList
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runner import completion
from taskgate.harness.runner.attempt import Attempt, Outcome
from taskgate.harness.runner.engine_pool import EnginePool
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.tasks.task import Task

BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 60.0
# So often an image is judged anew that was rebuilt before its agent could start.
JUDGEMENTS = 3

# What becomes of a task. A SKIP costs no agent's time; only `done` is a result.
SKIP_DONE, SKIP_BROKEN, SKIP_INVALID, SKIP_INCOMPATIBLE = (
    "SKIP (done)",
    "SKIP (broken)",
    "SKIP (validation failed)",
    "SKIP (incompatible)",
)
DONE, FAILED, INFRA, INTERRUPTED = "done", "failed", "infra", "interrupted"
NOT_WORTH_IT = (SKIP_BROKEN, SKIP_INVALID, SKIP_INCOMPATIBLE)
SKIPPED = (SKIP_DONE, *NOT_WORTH_IT)


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a task in this run, and why. `seconds` and `calls` are what its agent used, `config` stands for
    what its result depends on besides the image."""

    task: Task
    what: str
    reason: str | None = None
    seconds: float = 0.0
    calls: int | None = None
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """A task that is worth an agent: what was judged of its image, and what the run brings to it."""

    digest: str | None
    config: str
    delivery: Delivery | None


class Runner:
    """One run over `tasks` with results in `results`, `jobs` at a time on the engines of `stations`."""

    def __init__(
        self,
        tasks: list[Task],
        spec: RunSpec,
        results: Results,
        *,
        session: str,
        stations: list[EnginePool],
        jobs: int,
        cache: VerdictCache,
        skip_list: SkipList,
        stopping: threading.Event,
        keep_failed: bool = False,
        redo: bool = False,
        trust_common_failures: bool = False,
    ) -> None:
        self._tasks, self._spec, self._results, self._session = tasks, spec, results, session
        self._stations, self._jobs, self._cache, self._skip_list = stations, jobs, cache, skip_list
        self._stopping, self._keep_failed, self._redo = stopping, keep_failed, redo
        self._trust_common_failures = trust_common_failures
        # What nearly all images fail in alike; known once the run is over.
        self.common_failures: list[CommonFailure] = []
        self._judged: dict[str, Record] = {}
        self._journal = Lines(results.out / JOURNAL)
        self._writing = threading.Lock()
        self._left: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Ended | BaseException | None] = queue.SimpleQueue()

    def run(self) -> Iterator[Ended]:
        """What becomes of each task, as it is known. Those that were not begun when the run was stopped are left out.

        Raises what went wrong with this program's own files.
        """
        for task in self._tasks:
            self._left.put(task)
        threads = [
            threading.Thread(target=self._worker, args=(self._stations[number % len(self._stations)],), daemon=True)
            for number in range(min(self._jobs, len(self._tasks)))
        ]
        for thread in threads:
            thread.start()
        alive = len(threads)
        trouble: BaseException | None = None
        while alive:
            told = self._next()
            if told is None:
                alive -= 1
            elif isinstance(told, BaseException):
                trouble = trouble or told
                self._stopping.set()
            else:
                yield told
        self._list_broken()
        if trouble:
            raise trouble

    def _next(self) -> Ended | BaseException | None:
        while True:
            # Not for ever at once: the main thread must stay open to Ctrl-C.
            with contextlib.suppress(queue.Empty):
                return self._ended.get(timeout=0.2)

    def _worker(self, station: EnginePool) -> None:
        connection = _Connection(station.connect)
        try:
            while not self._stopping.is_set():
                try:
                    task = self._left.get_nowait()
                except queue.Empty:
                    return
                ended = self._task(task, station, connection)
                self._note(ended)
                self._ended.put(ended)
        except BaseException as error:
            self._ended.put(error)
        finally:
            connection.close()
            self._ended.put(None)

    # One task.

    def _task(self, task: Task, station: EnginePool, connection: _Connection) -> Ended:
        changed: ImageChanged | None = None
        for _ in range(JUDGEMENTS):
            with station.gate() as gate:
                found = self._before(task, gate)
            if isinstance(found, Ended):
                return found
            try:
                return self._attempts(task, found, station, connection)
            except ImageChanged as error:
                changed = error
        return Ended(task, INFRA, f"it changes faster than it can be judged: {changed}")

    def _attempts(self, task: Task, found: Sound, station: EnginePool, connection: _Connection) -> Ended:
        """As many as it takes. Raises ImageChanged."""
        for number in range(1, self._spec.retries + 2):
            fresh = self._results.fresh(task.id)
            begun = datetime.now(UTC).isoformat(timespec="milliseconds")
            outcome, again = self._attempt(task, fresh, found, station, connection)
            if outcome is None:
                break
            if not again or number > self._spec.retries:
                return self._settled(task, fresh, outcome, found.config, begun, number)
            shutil.rmtree(fresh, ignore_errors=True)
            if self._stopping.wait(min(BACKOFF_SECONDS * 2 ** (number - 1), MAX_BACKOFF_SECONDS)):
                break
        return Ended(task, INTERRUPTED)

    def _attempt(
        self, task: Task, folder: Path, found: Sound, station: EnginePool, connection: _Connection
    ) -> tuple[Outcome | None, bool]:
        """How an attempt ended, and whether another one makes sense; None where it was interrupted.

        Raises ImageChanged.
        """
        try:
            engine = connection.engine()
            attempt = Attempt(
                engine,
                task,
                self._spec,
                folder,
                digest=found.digest,
                session=self._session,
                delivery=found.delivery.through(engine) if found.delivery else None,
                prover=station.prover,
                stopping=self._stopping,
                starting=station.starting,
            )
            return attempt.run(), False
        except ImageChanged:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except Interrupted:
            return None, False
        except InfraError as error:
            if isinstance(error, EngineUnavailable):
                connection.close()
            return Outcome(INFRA, str(error)[:2000]), error.transient
        except TaskgateError as error:
            # An image that is gone since it was judged, or that this host can't run after all.
            return Outcome(INFRA, str(error)[:2000]), False
        except Exception as error:
            # What one task does to this program must not cost the others their run.
            return Outcome(INFRA, f"taskgate itself failed: {type(error).__name__}: {error}"[:2000]), False

    def _before(self, task: Task, gate: Gate) -> Ended | Sound:
        """Is the task worth it? What it ends with already, or what an agent is started with."""
        if self._stopping.is_set():
            return Ended(task, INTERRUPTED)
        record: Record | None = None
        config: str | None = None
        for _ in range(3):
            try:
                known = gate.known(task)
                if known and known.verdict is Verdict.BROKEN and task.id in gate.skips:
                    with contextlib.suppress(InfraError):
                        config = self._spec.fingerprint(task, gate.fingerprint(task))
                    return Ended(task, SKIP_BROKEN, _why(known), config=config)
                config = self._spec.fingerprint(task, gate.fingerprint(task))
                if ended := self._already(task, gate, config):
                    return ended
                record = known or gate.judge(task)
                self._remember(record, gate)
                if record.verdict is Verdict.HEALTHY:
                    return Sound(record.digest, config, gate.delivery(task))
            except InfraError:
                # The gate knows how to wait for an engine, and what to say where that is in vain.
                record = gate.judge(task)
                self._remember(record, gate)
            if record.verdict is not Verdict.HEALTHY:
                break
        assert record is not None
        if self._stopping.is_set() and record.verdict is Verdict.INFRA:
            return Ended(task, INTERRUPTED)
        what = {Verdict.BROKEN: SKIP_INVALID, Verdict.INCOMPATIBLE: SKIP_INCOMPATIBLE}.get(record.verdict, INFRA)
        return Ended(task, what, _why(record) or "the engine comes and goes", config=config)

    def _already(self, task: Task, gate: Gate, config: str) -> Ended | None:
        if self._redo:
            return None
        # An image that is not here can't be another build than the one that was used, as far as is known.
        try:
            digest = gate.engine.image(task.request).digest if task.pull == "always" else gate.engine.digest(task.image)
            completion.check(self._results, task.id, digest=digest, config=config)
            return Ended(task, SKIP_DONE, config=config)
        except (ImageNotFound, PlatformUnavailable):
            # What that means is the gate's to say.
            return None
        except completion.Unfinished:
            told = self._results.result(task.id)
        if self._keep_failed and told and told.get("status") == FAILED and told.get("config") == config:
            return Ended(task, FAILED, f"in an earlier run: {told.get('reason')}", config=config)
        return None

    def _settled(self, task: Task, folder: Path, outcome: Outcome, config: str, begun: str, attempts: int) -> Ended:
        """The attempt's folder, with its record, in the task's place. Raises InfraError, NoSpace."""
        try:
            record = {
                "task_id": task.id,
                "status": outcome.status,
                "reason": outcome.reason,
                "exit_status": outcome.exit_status,
                "stopped": outcome.stopped,
                "seconds": round(outcome.seconds, 3),
                "calls": outcome.calls,
                "image": task.image,
                "digest": outcome.digest,
                "config": config,
                "run": self._session,
                "started": begun,
                "attempts": attempts,
                "artifacts": completion.describe(folder, outcome.artifacts),
            }
            files.write(folder / RESULT, json.dumps(record, indent=1).encode())
            self._results.settle(task.id, folder)
        except OSError as error:
            raise files.trouble(folder, error) from error
        return Ended(task, outcome.status, outcome.reason, outcome.seconds, outcome.calls, config)

    # What is kept.

    def _remember(self, record: Record, gate: Gate) -> None:
        """A fresh verdict goes where the gate's own go. Raises InfraError, SkipListError."""
        if record.check == "skip_list":
            return
        entry = gate.skips.get(record.task_id)
        with self._writing:
            self._cache.put(record)
            self._judged[record.task_id] = record
            if record.verdict is Verdict.HEALTHY and entry and not entry.by_hand:
                sound = skip_list_sync.cleared(record, entry)
                self._skip_list.update([], [sound] if sound else [])

    def _list_broken(self) -> None:
        """At the end: what nearly all images fail in alike is not listed. Raises InfraError, SkipListError."""
        tasks = {task.id: task for task in self._tasks}
        self.common_failures = common_failures(self._judged.values(), tasks)
        judged = [record for task in self._tasks if (record := self._judged.get(task.id))]
        broken = [record for record in judged if record.verdict is Verdict.BROKEN]
        if broken and (self._trust_common_failures or not self.common_failures):
            self._skip_list.update([Entry.of(record, self._session) for record in broken], [])

    def _note(self, ended: Ended) -> None:
        line = {
            "task_id": ended.task.id,
            "what": ended.what,
            "reason": ended.reason,
            "config": ended.config,
            "seconds": round(ended.seconds, 3),
            "run": self._session,
            "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        with self._writing:
            self._journal.append(line)


class _Connection:
    """A worker's own client of its engine; made anew after the engine was away."""

    def __init__(self, connect: Callable[[], Engine]) -> None:
        self._connect = connect
        self._made: Engine | None = None

    def engine(self) -> Engine:
        """Raises EngineUnavailable."""
        if self._made is None:
            self._made = self._connect()
        return self._made

    def close(self) -> None:
        if self._made:
            self._made.close()
        self._made = None


def _why(record: Record) -> str:
    return f"{record.check}: {record.reason}" if record.check else record.reason or ""
