"""When a command gets more time, and how an agent's commands are started."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable

import pytest

from taskgate.harness.sandbox import agent_command, progress
from taskgate.harness.sandbox.progress import Activity, Progress
from taskgate.harness.tasks.task import Agent, Task

BUSY = int(progress.BUSY_SHARE * progress.WINDOW_SECONDS * 1e9)


def granted(activities: Iterable[Activity | None], until: float = 60.0) -> tuple[int, bool]:
    """How many windows were granted, and whether the command counts as busy at the end."""
    measured = iter(activities)
    watch = Progress(lambda: next(measured), time.monotonic() + until)
    count = 0
    while watch.more():
        count += 1
    return count, watch.busy


@pytest.mark.parametrize(
    ("activities", "expected"),
    [
        # The first measurement has nothing to be compared with.
        ([Activity(5, 0), Activity(5, 0)], (1, False)),
        ([Activity(0, 0), Activity(BUSY, 0), Activity(2 * BUSY, 0), Activity(2 * BUSY, 0)], (3, False)),
        ([Activity(0, 0), Activity(0, 4096), Activity(0, 4096)], (2, False)),
        ([Activity(0, 0), Activity(BUSY - 1, 0)], (1, False)),
        ([None], (0, False)),
        ([Activity(0, 0), None], (1, False)),
    ],
)
def test_progress(activities: list[Activity | None], expected: tuple[int, bool]) -> None:
    assert granted(activities) == expected


def test_the_end_of_patience() -> None:
    assert granted([Activity(0, 0), Activity(BUSY, 0)], until=-1.0) == (1, True)


def test_an_agent_by_its_own_program() -> None:
    assert agent_command.argv_of(Agent(run=("run", "-x")), Task("a", "i")) == ("run", "-x")
    assert agent_command.argv_of(Agent(module="m"), Task("a", "i")) == ("python3", "-m", "m")
    assert agent_command.argv_of(Agent(module="m"), Task("a", "i", python="/opt/py")) == ("/opt/py", "-m", "m")


def test_an_agent_by_a_shell() -> None:
    assert agent_command.through(None, ("a", "b c")) == ("a", "b c")
    argv = agent_command.through(("sh", "-c"), ("printf", "%s|", "it's", "$HOME", "a b"))
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "it's|$HOME|a b|"
    argv = agent_command.through(("sh", "-c"), ("sh", "-c", 'echo "$PATH"'))
    env = {"PATH": "/usr/bin:/bin", "TASKGATE_RUNTIME": "/.taskgate/x"}
    assert (
        subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout
        == "/usr/bin:/bin:/.taskgate/x/bin\n"
    )
