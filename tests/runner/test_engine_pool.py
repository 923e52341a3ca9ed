"""Which engine gets the next task, and when an engine that failed is fit again."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError, NoSpace, UsageError
from taskgate.harness.runner import engine_pool
from taskgate.harness.runner.engine_pool import EnginePool, PooledEngine, is_engine_fault
from taskgate.harness.runner.limits import LEAST_TASKS, InfraLimit
from taskgate.harness.runner.states import TaskResult, TaskState
from taskgate.harness.tasks.task import Task

NONE: frozenset[PooledEngine] = frozenset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("taskgate.harness.runner.engine_pool.time.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def pool() -> EnginePool:
    gate: Any = lambda connect, prover: SimpleNamespace()  # noqa: E731
    return EnginePool([PooledEngine(url, "s", 4, gate) for url in ("tcp://a:1", "tcp://b:1")])


def _next(pool: EnginePool, avoid: frozenset[PooledEngine] = NONE) -> str:
    engine = pool.acquire(avoid, threading.Event())
    assert engine
    return engine.name[6]


def test_the_one_with_the_least_work(pool: EnginePool) -> None:
    assert [_next(pool) for _ in range(4)] == ["a", "b", "a", "b"]
    pool.release(pool.engines[1], fault=False)
    assert _next(pool) == "b"


def test_one_that_failed_rests_and_returns(pool: EnginePool, clock: Any) -> None:
    first, _second = pool.engines
    assert _next(pool) == "a"
    pool.release(first, fault=True)
    assert [_next(pool) for _ in range(3)] == ["b", "b", "b"]
    clock.now += engine_pool.BACKOFF_SECONDS
    # A single task to begin with.
    assert [_next(pool), _next(pool)] == ["a", "b"]
    pool.release(first, fault=True)
    clock.now += engine_pool.BACKOFF_SECONDS
    assert _next(pool) == "b", "it rests longer each time"
    clock.now += engine_pool.BACKOFF_SECONDS
    assert _next(pool) == "a"
    pool.answered(first)
    assert [_next(pool), _next(pool)] == ["a", "a"]


def test_a_task_is_not_given_to_one_that_failed_it(pool: EnginePool) -> None:
    first, second = pool.engines
    assert _next(pool, frozenset({first})) == "b" and pool.others(frozenset({first}))
    assert not pool.others(frozenset({first, second}))
    assert _next(pool, frozenset({first, second})) == "a"


def test_where_all_rest_nobody_waits_for_ever(pool: EnginePool, clock: Any) -> None:
    for engine in pool.engines:
        engine.active = 1
        pool.release(engine, fault=True)
        clock.now += 1
    assert _next(pool) == "a", "the one that has rested for longest; the gate waits for it, and gives up"
    stopping = threading.Event()
    stopping.set()
    assert pool.acquire(NONE, stopping) is None


def test_whose_fault() -> None:
    assert is_engine_fault(EngineUnavailable("x")) and is_engine_fault(EngineTimeout("x"))
    assert is_engine_fault(NoSpace("the engine's disk is full"))
    assert not is_engine_fault(InfraError("x"))
    try:
        raise NoSpace("out") from OSError(28, "full")
    except NoSpace as error:
        assert not is_engine_fault(error), "this host's disk is full, whichever engine is taken"


def _result(state: TaskState, reason: str = "no engine") -> TaskResult:
    return TaskResult(Task("a", "b"), state, reason)


def test_a_number_of_infra() -> None:
    limit = InfraLimit.parse("2")
    assert limit
    assert [limit.add(_result(TaskState.INFRA)) for _ in range(3)] == [False, False, True]
    assert "3 of 3 tasks ended in infra" in str(limit) and "(3 tasks): no engine" in str(limit)


def test_a_share_of_infra() -> None:
    limit = InfraLimit.parse("90%")
    assert limit and not any(limit.add(_result(TaskState.INFRA)) for _ in range(LEAST_TASKS - 1))
    assert not any(limit.add(_result(TaskState.SKIPPED_DONE)) for _ in range(100)), "what is skipped does not count"
    assert limit.add(_result(TaskState.INFRA))
    limit = InfraLimit.parse("90%")
    assert limit and not any(limit.add(_result(TaskState.DONE)) for _ in range(LEAST_TASKS))
    assert not any(limit.add(_result(TaskState.INFRA)) for _ in range(9 * LEAST_TASKS))
    assert limit.add(_result(TaskState.INFRA))


def test_limits_as_they_are_written() -> None:
    assert InfraLimit.parse("off") is None
    for text in ("", "x", "-1", "101%", "1.5", "nan%"):
        with pytest.raises(UsageError, match="--max-infra"):
            InfraLimit.parse(text)
