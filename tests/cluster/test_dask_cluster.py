"""dask.distributed behind the seam: real schedulers and workers on the loopback interface, killed and stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import UsageError
from taskgate.harness.cluster import cluster as seam
from taskgate.harness.cluster.cluster import Cluster, Completion, Job


def fetch(payload: Any) -> int:
    return os.getpid()


def work(payload: Any, fetched: int) -> tuple[int, int]:
    """The processes that fetched and that worked; `payload` says what happens meanwhile."""
    if isinstance(payload, str) and payload.startswith("raise "):
        raise ValueError(payload.removeprefix("raise "))
    if payload == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return fetched, os.getpid()


def refuse(value: Any) -> None:
    raise RuntimeError(f"not with {value}")


@pytest.fixture
def local() -> Iterator[Cluster]:
    connected = seam.connect("local:2")
    yield connected
    connected.close()


def collect(cluster: Cluster, count: int, meanwhile: Callable[[int], None] = lambda count: None) -> list[Completion]:
    seen: list[Completion] = []
    deadline = time.monotonic() + 120
    while len(seen) < count and time.monotonic() < deadline:
        for completion in cluster.completed(1.0):
            seen.append(completion)
            meanwhile(len(seen))
    return seen


def test_each_job_works_where_it_was_fetched(local: Cluster) -> None:
    for number in range(60):
        local.submit(Job(str(number), fetch, work, number))
    seen = collect(local, 60)
    assert sorted(int(completion.key) for completion in seen) == list(range(60))
    assert all(completion.result[0] == completion.result[1] for completion in seen)
    assert len({completion.result[1] for completion in seen}) == 2, "both nodes had work"


def test_an_error_is_the_jobs_own(local: Cluster) -> None:
    local.submit(Job("bad", fetch, work, "raise no such luck"))
    (completion,) = collect(local, 1)
    assert isinstance(completion.error, ValueError) and str(completion.error) == "no such luck"
    assert not completion.lost


@pytest.mark.slow
def test_a_killed_worker_costs_no_job(local: Cluster) -> None:
    for number in range(40):
        local.submit(Job(str(number), fetch, work, number))
    killed: list[int] = []

    def kill_one(count: int) -> None:
        if count == 10:
            killed.append(seen_pid[0])
            os.kill(seen_pid[0], signal.SIGKILL)

    seen_pid = [next(iter(local._client.run(os.getpid).values()))]  # type: ignore[attr-defined]
    seen = collect(local, 40, kill_one)
    assert killed and sorted(int(completion.key) for completion in seen) == list(range(40))
    assert all(completion.error is None for completion in seen)


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_lost_and_the_others_are_not(local: Cluster) -> None:
    local.submit(Job("poison", fetch, work, "kill"))
    for number in range(10):
        local.submit(Job(str(number), fetch, work, number))
    seen = {completion.key: completion for completion in collect(local, 11)}
    assert seen["poison"].lost
    assert all(seen[str(number)].error is None for number in range(10))


def test_a_node_that_refuses_is_named(local: Cluster) -> None:
    with pytest.raises(UsageError, match=r"--cluster: the worker at tcp://127\.0\.0\.1:\d+ can't be used: not with 7"):
        local.prepare(refuse, 7)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("local:0", "must be local:N"),
        ("local:x", "must be local:N"),
        ("tcp://192.0.2.1:8786", "has no TLS"),
        ("nowhere", "neither an address nor a scheduler file"),
        ("ray+local:2", "no cluster adapter 'ray'"),
    ],
)
def test_mistakes(address: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        seam.connect(address)


def test_a_scheduler_file(local: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    local._client.write_scheduler_file(str(path))  # type: ignore[attr-defined]
    other = seam.connect(str(path))
    other.submit(Job("one", fetch, work, 1))
    assert collect(other, 1)[0].error is None
    other.close()
