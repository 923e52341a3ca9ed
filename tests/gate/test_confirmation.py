"""What hangs is confirmed in a second container while the first still waits: it costs one deadline, not two."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from taskgate.checks import _registry as registry
from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.gate.examiner import Examiner
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox import sandbox
from taskgate.harness.sandbox.container import Container
from taskgate.harness.tasks.task import Agent, Task

SECONDS = 8.0


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the containers that are created."""
    created: list[str] = []
    start = Container.start

    def noted(self: Container) -> None:
        created.append(self.id)
        start(self)

    monkeypatch.setattr(Container, "start", noted)
    return created


@pytest.fixture
def judge(sound: str, containers: list[str]) -> Iterator[Callable[..., Record]]:
    gate = Gate(Engine, registry.load(), session=ownership.new_session())

    def judge(*command: str) -> Record:
        agent = Agent(command=command)
        return gate.judge(Task("one", sound, repo_path=None, pull="never", timeout=SECONDS, agent=agent))

    yield judge
    gate.close()


def _left(client: Any, containers: list[str]) -> list[str]:
    """Those that are still there after a moment: an engine takes its time."""
    for _ in range(50):
        left = [one["Id"] for one in client.api.containers(all=True) if one["Id"] in containers]
        if not left:
            return []
        time.sleep(0.1)
    return left


def test_a_hang_costs_one_deadline(judge: Callable[..., Record], containers: list[str], client: Any) -> None:
    judge("true")
    containers.clear()
    begun = time.monotonic()
    record = judge("sleep", "1000")
    seconds = time.monotonic() - begun
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record
    assert "timed out after 8 s" in str(record.reason)
    assert len(containers) == 2, "it did not hang twice"
    assert seconds < 1.7 * SECONDS, seconds
    assert not _left(client, containers)


def test_what_is_slow_and_comes_to_its_end(judge: Callable[..., Record], containers: list[str], client: Any) -> None:
    """The second container is given up at once."""
    record = judge("sleep", str(sandbox.slow_after(SECONDS) + 1.5))
    assert record.verdict is Verdict.HEALTHY, record
    assert len(containers) == 2 and not _left(client, containers)


def test_what_is_quick_needs_no_second_container(
    judge: Callable[..., Record], containers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy host much is slow.
    monkeypatch.setattr(sandbox, "slow_after", lambda seconds: seconds)
    assert judge("true").verdict is Verdict.HEALTHY
    assert len(containers) == 1


def test_what_hangs_once(judge: Callable[..., Record], containers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The host was busy: the second container's verdict counts."""
    aside = Examiner._aside

    @contextlib.contextmanager
    def quick(self: Examiner, task: Task, delivery: Delivery | None, image: Image) -> Iterator[Judgement]:
        with aside(self, replace(task, agent=Agent(command=("true",))), delivery, image) as judgement:
            yield judgement

    monkeypatch.setattr(Examiner, "_aside", quick)
    assert judge("sleep", "1000").verdict is Verdict.HEALTHY
    assert len(containers) == 2


def test_an_engine_that_fails_the_second_container(
    judge: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once is not enough: nothing is known of the image."""

    def failing(*_: Any) -> contextlib.AbstractContextManager[Judgement]:
        error = InfraError("the engine is full")
        error.transient = False
        raise error

    monkeypatch.setattr(Examiner, "_aside", failing)
    record = judge("sleep", "1000")
    assert (record.verdict, record.reason) == (Verdict.INFRA, "the engine is full"), record
