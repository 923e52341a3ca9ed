"""An image that bears the labels by which taskgate knows its own containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from examples import images
from taskgate.harness.engine import ownership, reaper
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks.task import Task
from tests.library import running

# More than Python takes for a number.
DIGITS = "9" * 5000
PRETENCES = {
    "gone": {"taskgate.pid": "0", "taskgate.started": "0"},
    "pid": {"taskgate.pid": DIGITS},
    "expires": {"taskgate.host": "another", "taskgate.expires": DIGITS},
}


@pytest.fixture(
    scope="module",
    params=PRETENCES,
)
def pretender(request: pytest.FixtureRequest, client: Any, sound: str) -> Iterator[str]:
    """It says that it was left over long ago, by a process of this host that is gone; or what nobody can read."""
    said = {**ownership.labels("0", -9999), **PRETENCES[request.param]}
    labels = " ".join(f"{name}={value!r}" for name, value in said.items())
    yield images.build(client, f"taskgate-test/hostile-labels:{request.param}", f"FROM {sound}\nLABEL {labels}")


@pytest.mark.parametrize("text", [DIGITS, "", "-1", "1.5", "x", "٣", "²"])
def test_what_is_no_number(text: str) -> None:
    """Neither a process nor a time: nothing is known to be left over."""
    said = ownership.labels("0", -9999)
    assert ownership.abandoned(said | {"taskgate.host": "another"})
    assert not ownership.abandoned(said | {"taskgate.host": "another", "taskgate.expires": text})
    assert not ownership.abandoned(said | {"taskgate.pid": text, "taskgate.expires": text})


def test_what_others_run_from_it_is_left_alone(client: Any, engine: Engine, pretender: str) -> None:
    with running(client, pretender) as bystander:
        assert bystander.labels["taskgate"] == "gate"
        reaper.reap(engine)
        reaper.reap(engine, "0")
        bystander.reload()
        assert bystander.status == "running"


def test_what_taskgate_runs_from_it_is_its_own(client: Any, engine: Engine, pretender: str) -> None:
    from taskgate.harness.sandbox.sandbox import Sandbox

    session = ownership.new_session()
    sandbox = Sandbox(engine, Task("one", pretender, pull="never"), session)
    sandbox.start()
    assert sandbox._container is not None
    # It lives as long as its owner does.
    reaper.reap(engine)
    assert sandbox.sh("echo alive").out == "alive\n"
    reaper.reap(engine, session)
    assert client.containers.list(all=True, filters={"label": f"taskgate.session={session}"}) == []
    sandbox.close()
