"""One task of a run on one engine: is it worth an agent, how often is that tried, and what becomes of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import (
    ImageChanged,
    ImageNotFound,
    InfraError,
    Interrupted,
    PlatformUnavailable,
    TaskgateError,
)
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runner import artifacts, completion
from taskgate.harness.runner.attempt import Attempt, Outcome, result_record
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.bookkeeping import Bookkeeping
from taskgate.harness.runner.engine_pool import PooledEngine, blames_engine, is_engine_fault
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import RunSpec, fingerprint
from taskgate.harness.runner.states import TaskResult, TaskState
from taskgate.harness.runner.workplace import JudgedTask, Site
from taskgate.harness.tasks.task import Task

BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 60.0
# So often an image is judged anew that was rebuilt before its agent could start.
JUDGEMENTS = 3
REASON_CHARS = 2000

Problem = Callable[[Task, tuple[str, ...]], str | None]


class EngineFault(Exception):
    """The engine failed a task that another engine may do better with."""


class TaskRun:
    """What a run does with each of its tasks. Thread-safe."""

    def __init__(
        self,
        spec: RunSpec,
        results: Results,
        *,
        session: str,
        bookkeeping: Bookkeeping,
        stopping: threading.Event,
        draining: threading.Event,
        keep_failed: bool = False,
        redo: bool = False,
        problem: Problem = lambda task, digests: None,
    ) -> None:
        """`problem`: why no agent is to be put on a task with an image of these digests; None where there is none."""
        self._problem = problem
        self._spec, self._results, self._session, self._bookkeeping = spec, results, session, bookkeeping
        self._stopping, self._draining = stopping, draining
        self._keep_failed, self._redo = keep_failed, redo

    def run(
        self,
        task: Task,
        engine: PooledEngine,
        *,
        lost: list[Path] | None = None,
        may_move: bool = False,
        started: Callable[[], None] = lambda: None,
    ) -> TaskResult:
        """What becomes of a task.

        `lost`: the folders of attempts that other engines cost. `may_move`: raise EngineFault where the engine fails
        the task. `started` is called once an agent is at work.
        """
        lease = _Lease(task, engine)
        try:
            return self._run(task, engine, lease, lost if lost is not None else [], may_move, started)
        finally:
            lease.release()

    def _run(
        self,
        task: Task,
        engine: PooledEngine,
        lease: _Lease,
        lost: list[Path],
        may_move: bool,
        started: Callable[[], None],
    ) -> TaskResult:
        changed: ImageChanged | None = None
        for _ in range(JUDGEMENTS):
            with engine.gate() as gate:
                judged = self._before(task, engine, gate, lease, may_move)
            if isinstance(judged, TaskResult):
                return judged
            attempts = _Attempts(self, judged, engine, lost, may_move, started)
            try:
                return attempts.run()
            except ImageChanged as error:
                changed = error
            finally:
                attempts.close()
        return TaskResult(task, TaskState.INFRA, f"it changes faster than it can be judged: {changed}")

    def may_need(self, task: Task) -> bool:
        """May the task's image be needed, as far as is known without asking an engine?"""
        if self._redo:
            return True
        try:
            completion.check(self._results, task.id, digests=None, config=None)
        except completion.Unfinished:
            return True
        return False

    # Before an agent.

    def _before(
        self, task: Task, engine: PooledEngine, gate: Gate, lease: _Lease, may_move: bool
    ) -> TaskResult | JudgedTask:
        """Is the task worth it? What it ends with already, or what an agent is started with. Raises EngineFault."""
        if self._stopping.is_set():
            return TaskResult(task, TaskState.INTERRUPTED)
        record: Record | None = None
        config: str | None = None
        for _ in range(3):
            try:
                known = gate.known(task)
                if known and known.verdict is Verdict.BROKEN and task.id in gate.skips:
                    with contextlib.suppress(InfraError):
                        config = fingerprint(self._spec, task, gate)
                    return TaskResult(task, TaskState.SKIPPED_BROKEN, _why(known), config=config)
                config = fingerprint(self._spec, task, gate)
                if result := self._already(task, gate, config):
                    return result
                lease.acquire(gate.engine)
                record = known or gate.judge(task)
                self._bookkeeping.verdict(record, gate)
                if record.verdict is Verdict.HEALTHY:
                    digests = _digests(gate, task, record)
                    if problem := self._problem(task, digests):
                        return TaskResult(task, TaskState.SKIPPED_UNPROVEN, problem, config=config)
                    return JudgedTask(task, digests, config, gate.delivery(task))
            except InfraError as error:
                if may_move and is_engine_fault(error):
                    raise EngineFault from error
                # The gate knows how to wait for an engine, and what to say where that is in vain.
                record = gate.judge(task)
                self._bookkeeping.verdict(record, gate)
            if record.verdict is not Verdict.HEALTHY:
                break
        assert record is not None
        return self._unfit(task, record, config, engine, may_move)

    def _unfit(
        self, task: Task, record: Record, config: str | None, engine: PooledEngine, may_move: bool
    ) -> TaskResult:
        """No agent is put on it. Raises EngineFault."""
        if record.verdict is Verdict.INFRA:
            if self._stopping.is_set():
                return TaskResult(task, TaskState.INTERRUPTED)
            if may_move and (blames_engine(record.reason) or not engine.alive()):
                raise EngineFault
        states = {Verdict.BROKEN: TaskState.SKIPPED_INVALID, Verdict.INCOMPATIBLE: TaskState.INCOMPATIBLE}
        state = states.get(record.verdict, TaskState.INFRA)
        return TaskResult(task, state, _why(record) or "the engine comes and goes", config=config)

    def _already(self, task: Task, gate: Gate, config: str) -> TaskResult | None:
        if self._redo:
            return None
        # An image that is not here can't be another build than the one that was used, as far as is known.
        try:
            image = gate.engine.image(task.request) if task.pull == "always" else gate.engine.local(task.image)
            completion.check(self._results, task.id, digests=image.digests if image else None, config=config)
            return TaskResult(task, TaskState.SKIPPED_DONE, config=config)
        except (ImageNotFound, PlatformUnavailable):
            # What that means is the gate's to say.
            return None
        except completion.Unfinished:
            record = self._results.last(task.id)
        if self._keep_failed and record and record.get("status") == TaskState.FAILED and record.get("config") == config:
            return TaskResult(task, TaskState.FAILED, f"in an earlier run: {record.get('reason')}", config=config)
        return None


class _Attempts:
    """The attempts at one task on one engine: as many as it takes, or as are allowed."""

    def __init__(
        self,
        run: TaskRun,
        judged: JudgedTask,
        engine: PooledEngine,
        lost: list[Path],
        may_move: bool,
        started: Callable[[], None],
    ) -> None:
        self._run, self._judged, self._engine = run, judged, engine
        self._lost, self._may_move, self._started = lost, may_move, started
        self._connection = _Connection(engine)
        self._spec, self._results = run._spec, run._results

    def close(self) -> None:
        self._connection.close()

    def run(self) -> TaskResult:
        """Raises ImageChanged, EngineFault."""
        for number in range(1, self._spec.retries + 2):
            try:
                folder = self._results.fresh(self._judged.task.id)
            except OSError as error:
                return self._result(Outcome(reason=str(files.trouble(self._results.out, error))))
            record = self._new_record(number)
            try:
                outcome = self._attempt(folder, record)
            except Interrupted:
                self._discard_lost()
                return TaskResult(self._judged.task, TaskState.INTERRUPTED)
            except ImageChanged:
                self._results.discard(folder)
                self._discard_lost()
                raise
            if not outcome.again or number > self._spec.retries or self._run._draining.is_set():
                return self._settle(folder, record, outcome)
            self._lose(folder, record, outcome)
            if self._run._stopping.wait(min(BACKOFF_SECONDS * 2 ** (number - 1), MAX_BACKOFF_SECONDS)):
                break
        self._discard_lost()
        return TaskResult(self._judged.task, TaskState.INTERRUPTED)

    def _attempt(self, folder: Path, record: AttemptRecord) -> Outcome:
        """How an attempt ended. Raises ImageChanged, Interrupted, EngineFault."""
        attempt: Attempt | None = None
        try:
            engine = self._connection.engine()
            delivery = self._judged.delivery
            judged = JudgedTask(
                self._judged.task, self._judged.digests, self._judged.config,
                delivery.through(engine) if delivery else None,
            )  # fmt: skip
            site = Site(engine, self._run._session, self._engine.prover, self._engine.starting, self._run._stopping)
            attempt = Attempt(site, judged, self._spec, folder, record, self._engine.connect, started=self._started)
            return attempt.run()
        except ImageChanged:
            raise
        except Interrupted:
            if not (attempt and attempt.kept):
                self._results.discard(folder)
            raise
        except TaskgateError as error:
            outcome = attempt.outcome if attempt else Outcome()
            outcome.state, outcome.reason = TaskState.INFRA, str(error)[:REASON_CHARS]
            # An image that is gone since it was judged, or that this host can't run after all, stays so.
            outcome.again = isinstance(error, InfraError) and error.transient
            if is_engine_fault(error):
                self._connection.close()
                if self._may_move:
                    self._lose(folder, record, outcome)
                    raise EngineFault from error
            return outcome
        except Exception as error:
            # What one task does to this program must not cost the others their run.
            reason = f"taskgate itself failed: {type(error).__name__}: {error}"
            return Outcome(reason=reason[:REASON_CHARS])

    def _new_record(self, number: int) -> AttemptRecord:
        return AttemptRecord(
            task_id=self._judged.task.id,
            image=self._judged.task.image,
            digests=list(self._judged.digests),
            config=self._judged.config,
            run=self._run._session,
            started=utc_now(),
            number=number,
            engine=self._engine.name,
        )

    # What becomes of their folders.

    def _lose(self, folder: Path, record: AttemptRecord, outcome: Outcome) -> None:
        """Not the last attempt: it is kept if an agent was at work in it."""
        if not outcome.seconds:
            self._results.discard(folder)
            return
        with contextlib.suppress(OSError):
            self._results.record(folder, result_record(outcome, record, {}))
        self._lost.append(folder)

    def _discard_lost(self) -> None:
        for folder in self._lost:
            self._results.discard(folder)
        self._lost.clear()

    def _settle(self, folder: Path, record: AttemptRecord, outcome: Outcome) -> TaskResult:
        """The attempt's folder, with its record, in its place."""
        task_id = self._judged.task.id
        try:
            described = artifacts.describe(folder, outcome.artifacts)
            self._results.record(folder, result_record(outcome, record, described))
            for earlier in self._lost:
                if earlier.exists():
                    self._results.settle(task_id, earlier)
            self._lost.clear()
            self._results.settle(task_id, folder)
        except OSError as error:
            return self._result(Outcome(reason=str(files.trouble(folder, error)), seconds=outcome.seconds))
        return self._result(outcome, record)

    def _result(self, outcome: Outcome, record: AttemptRecord | None = None) -> TaskResult:
        return TaskResult(
            self._judged.task,
            outcome.state,
            outcome.reason,
            outcome.seconds,
            outcome.calls,
            self._judged.config,
            self._engine.name,
            record.started if record else None,
        )


class _Lease:
    """A task's hold on its image: it stays on the engine from the judgement to the end of the last attempt."""

    def __init__(self, task: Task, engine: PooledEngine) -> None:
        self._request, self._images, self._held = task.request, engine.images, False

    def acquire(self, engine: Engine) -> None:
        """Raises InfraError."""
        if not self._held:
            self._held = True
            self._images.acquire(engine, self._request)

    def release(self) -> None:
        if self._held:
            self._images.release(self._request)


class _Connection:
    """A worker's own client of its engine; made anew after the engine was away."""

    def __init__(self, engine: PooledEngine) -> None:
        self._pooled = engine
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """Raises EngineUnavailable."""
        if self._engine is None:
            self._engine = self._pooled.connect()
        return self._engine

    def close(self) -> None:
        if self._engine:
            self._engine.close()
        self._engine = None


def _digests(gate: Gate, task: Task, record: Record) -> tuple[str, ...]:
    """All digests of the image that was judged, if the engine still has that one. Raises InfraError."""
    image = gate.engine.local(task.image)
    if image and (record.digest is None or record.digest in image.digests):
        return image.digests
    return (record.digest,) if record.digest else ()


def _why(record: Record) -> str:
    return f"{record.check}: {record.reason}" if record.check else record.reason or ""
