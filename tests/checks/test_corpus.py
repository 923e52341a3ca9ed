"""Every image of the labelled corpus gets the verdict and the check that its label says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Outcome, Record
from taskgate.harness.tasks.task import Agent, Require, Task
from tests.corpus import CASES, Case


@pytest.fixture(scope="module")
def judge() -> Iterator[Any]:
    gate = Gate(Engine, registry.load(), session=ownership.new_session())
    yield gate.judge
    gate.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case: Case, client: Any, sound: str, judge: Any) -> None:
    assert mistake(case, judge(task_of(case, client, sound))) is None


def mistake(case: Case, record: Record) -> str | None:
    """What is wrong with a record, by its case's label."""
    told = {finding.check: finding.outcome for finding in record.findings}
    # One fault is one failure: nothing that only follows from it is held against the image as well.
    failed = [name for name, outcome in told.items() if outcome is Outcome.FAIL]
    wrong = [
        (str(record.verdict), record.check) != (case.verdict, case.check),
        case.reason not in (record.reason or ""),
        case.verdict == "broken" and not record.hint,
        bool(case.warns) and told.get(case.warns or "") is not Outcome.WARN,
        failed != ([case.check] if case.check else []),
        bool(case.silent) and told.get(case.silent or "") is not Outcome.PASS,
    ]
    warned = [f"{one.check}: {one.reason}" for one in record.findings if one.outcome is Outcome.WARN]
    said = f"{wrong}: {record.verdict} {record.check} {record.reason} {failed} {warned} {record.evidence}"
    return said if any(wrong) else None


def task_of(case: Case, client: Any, sound: str) -> Task:
    """The task of a case, its image built."""
    given = dict(case.task)
    image = given.pop("image", None)
    if image is None:
        image = (
            images.build(client, f"taskgate-test/{case.name}:1", f"FROM {sound}\n{case.lines}") if case.lines else sound
        )
    agent = given.pop("agent", {"module": "agent"})
    if agent:
        agent = {name: tuple(value) if isinstance(value, list) else value for name, value in agent.items()}
    if given.get("base_commit") and not re.fullmatch("[0-9a-f]+", given["base_commit"]):
        command = ["git", "-C", "/testbed", "rev-parse", given["base_commit"]]
        given["base_commit"] = client.containers.run(image, command, remove=True).decode().strip()
    if "require" in given:
        given["require"] = Require(**{name: tuple(values) for name, values in given["require"].items()})
    base = Task(id=case.name, image=image, repo_path="/testbed", agent=Agent(**agent) if agent else None)
    return dataclasses.replace(base, **given)
