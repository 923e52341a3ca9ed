"""`--cluster`: the items of this one process are judged on the nodes of a cluster.

The loop keeps a window of jobs submitted and runs an item's protocol when its record arrives, so that every option and
report of pytest works as ever. This process alone writes journal, cache and skip list.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import pytest

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.cluster import node
from taskgate.harness.cluster.cluster import Cluster, ClusterLost, Completion
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.tasks.task import Task

# So many jobs a slot are submitted: enough that no node waits, few enough that a stop is quick.
WINDOW = 4
TICK_SECONDS = 1.0


class ClusterLoop:
    """One per run. `known` gives the payload of a task: what is known of it from before goes along."""

    def __init__(
        self,
        connect: Callable[[], Cluster],
        setup: Callable[[], node.NodeSetup],
        known: Callable[[Task], node.Payload],
    ) -> None:
        self._connect, self._setup, self._known = connect, setup, known
        self._records: dict[str, Record] = {}
        self.lost: str | None = None

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record that a node sent. `following` plays no part: nodes fetch ahead by themselves."""
        return self._records.pop(task.id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In place of pytest's own loop; what is no case of an image runs here, first."""
        if session.config.option.collectonly or (
            session.testsfailed and not session.config.option.continue_on_collection_errors
        ):
            return None
        cases = {task.id: item for item in session.items if (task := task_of(item))}
        others = [item for item in session.items if task_of(item) is None]
        for place, item in enumerate(others):
            _run(session, item, others[place + 1] if place + 1 < len(others) else next(iter(cases.values()), None))
        if not cases:
            return True
        cluster = self._open()
        try:
            self._judge_all(session, cluster, cases)
        except ClusterLost as error:
            self.lost = str(error)
        finally:
            cluster.cancel()
            self._close(cluster)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.lost:
            terminalreporter.write_line(f"taskgate: {self.lost}; run again to judge the rest", red=True)

    def _open(self) -> Cluster:
        try:
            cluster = self._connect()
            setup = self._setup()
            try:
                cluster.prepare(node.start, setup)
            except BaseException:
                cluster.close()
                raise
        except (UsageError, InfraError) as error:
            raise pytest.UsageError(str(error)) from error
        self._session = setup.session
        return cluster

    def _close(self, cluster: Cluster) -> None:
        with contextlib.suppress(InfraError, UsageError):
            if not self.lost:
                cluster.broadcast(node.stop, self._session)
        cluster.close()

    def _judge_all(self, session: pytest.Session, cluster: Cluster, cases: dict[str, pytest.Item]) -> None:
        waiting = deque(cases)
        submitted: set[str] = set()
        while cases:
            while waiting and len(submitted) < WINDOW * cluster.slots:
                task_id = waiting.popleft()
                submitted.add(task_id)
                task = task_of(cases[task_id])
                assert task is not None
                cluster.submit(node.job(self._known(task), task_id))
            for completion in cluster.completed(TICK_SECONDS):
                item = cases.pop(completion.key)
                submitted.discard(completion.key)
                task = task_of(item)
                assert task is not None
                self._records[task.id] = record_of(task, completion)
                # It must be a pending one: fixtures of the session are torn down after the last.
                _run(session, item, next(iter(cases.values()), None))


def record_of(task: Task, completion: Completion) -> Record:
    """The node's record; infra where the job has none."""
    if isinstance(completion.result, Record):
        return completion.result
    record = new_record(task, Verdict.INFRA)
    if completion.lost:
        record.reason = f"the workers that judged it died: {completion.error}"[:2000]
        record.hint = "Nothing is known of the image. Look at the workers' logs; run this task alone on one node."
    else:
        record.reason = f"the node failed: {completion.error}"[:2000]
        record.hint = "Nothing is known of the image. Fix what is named above and run again."
    return record


def task_of(item: pytest.Item) -> Task | None:
    """The task whose case an item is; None for other tests."""
    callspec = getattr(item, "callspec", None)
    task = callspec.params.get("task") if callspec else None
    return task if isinstance(task, Task) else None


def _run(session: pytest.Session, item: pytest.Item, following: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
