"""A run: every task that is worth it, once, N at a time, stopped and started again as often as need be."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from taskgate.harness.runner.bookkeeping import Bookkeeping
from taskgate.harness.runner.engine_pool import EnginePool, PooledEngine
from taskgate.harness.runner.limits import InfraLimit
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runner.states import TaskResult, TaskState
from taskgate.harness.runner.task_run import EngineFault, Problem, TaskRun
from taskgate.harness.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Controls:
    """How a run is ended: `stopping` ends the agents as well, `draining` starts nothing new."""

    stopping: threading.Event = field(default_factory=threading.Event)
    draining: threading.Event = field(default_factory=threading.Event)

    @property
    def ending(self) -> bool:
        return self.stopping.is_set() or self.draining.is_set()


@dataclass(slots=True)
class Item:
    """A task in the queue: the engines that failed it, and the folders of attempts that they cost."""

    task: Task
    tried: frozenset[PooledEngine] = frozenset()
    lost: list[Path] = field(default_factory=list)


class Runner:
    """One run over `tasks` with results in `results`, `jobs` at a time on the engines of `pool`."""

    def __init__(
        self,
        tasks: list[Task],
        spec: RunSpec,
        results: Results,
        *,
        session: str,
        pool: EnginePool,
        jobs: int,
        bookkeeping: Bookkeeping,
        controls: Controls,
        infra_limit: InfraLimit | None = None,
        keep_failed: bool = False,
        redo: bool = False,
        problem: Problem = lambda task, digests: None,
    ) -> None:
        """`problem`: see TaskRun."""
        self._tasks, self._results, self._pool, self._jobs = tasks, results, pool, jobs
        self._bookkeeping, self._controls, self._infra_limit = bookkeeping, controls, infra_limit
        self._task_run = TaskRun(
            spec,
            results,
            session=session,
            bookkeeping=bookkeeping,
            stopping=controls.stopping,
            draining=controls.draining,
            keep_failed=keep_failed,
            redo=redo,
            problem=problem,
        )
        self._left: deque[Item] = deque()
        self._ended: queue.SimpleQueue[TaskResult | BaseException | None] = queue.SimpleQueue()

    def run(self) -> Iterator[TaskResult]:
        """What becomes of each task, as it is known. Those that were not begun when the run was ended are left out.

        Raises what a worker did not expect.
        """
        for task in self._tasks:
            self._left.append(Item(task))
        threads = [
            threading.Thread(target=self._worker, name="taskgate-agent", daemon=True)
            for _ in range(min(self._jobs, len(self._tasks)))
        ]
        for thread in threads:
            thread.start()
        alive = len(threads)
        problem: BaseException | None = None
        while alive:
            ended = self._next()
            if ended is None:
                alive -= 1
            elif isinstance(ended, BaseException):
                problem = problem or ended
                self._controls.stopping.set()
            else:
                if self._infra_limit and self._infra_limit.add(ended):
                    self._controls.draining.set()
                yield ended
        if problem:
            raise problem

    def _next(self) -> TaskResult | BaseException | None:
        while True:
            # Not for ever at once: the main thread must stay open to Ctrl-C.
            with contextlib.suppress(queue.Empty):
                return self._ended.get(timeout=0.2)

    def _worker(self) -> None:
        try:
            while not self._controls.ending:
                try:
                    item = self._left.popleft()
                except IndexError:
                    return
                if result := self._run_item(item):
                    self._bookkeeping.result(result)
                    self._ended.put(result)
        except BaseException as error:
            self._ended.put(error)
        finally:
            self._ended.put(None)

    def _started(self, engine: PooledEngine) -> None:
        """An agent is at work: its engine is fit for more, and has time for the next task's image."""
        self._pool.answered(engine)
        with contextlib.suppress(IndexError):
            if not self._controls.ending and self._task_run.may_need(task := self._left[0].task):
                engine.images.expect(task.request)

    def _run_item(self, item: Item) -> TaskResult | None:
        """What becomes of a task; None where its engine failed it and it is in the queue again, for another one."""
        engine = self._pool.acquire(item.tried, self._controls.stopping)
        if engine is None:
            return TaskResult(item.task, TaskState.INTERRUPTED)
        fault = False
        tried = item.tried | {engine}
        try:
            others = self._pool.others(tried)
            result = self._task_run.run(
                item.task, engine, lost=item.lost, may_move=others, started=lambda: self._started(engine)
            )
            fault = result.state is TaskState.INFRA and not engine.alive()
            return result
        except EngineFault:
            fault = True
            self._left.append(Item(item.task, tried, item.lost))
            return None
        finally:
            self._pool.release(engine, fault=fault)
