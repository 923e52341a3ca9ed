"""The same corpus, judged through Podman's API: the same verdicts."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate as Judge
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Agent, Task
from tests import engines
from tests.checks.test_corpus import mistake, task_of
from tests.conftest import CLONE, Gate
from tests.corpus import CASES
from tests.running import Run

pytestmark = pytest.mark.slow

# Podman gives a user without a name an entry in /etc/passwd, so that there is nothing to warn of.
NAMED = {"uid-without-name"}


@pytest.fixture(scope="module")
def podman() -> Iterator[engines.Daemon]:
    with engines.podman() as daemon:
        yield daemon


def _copy(client: Any, daemon: engines.Daemon, tags: list[str]) -> None:
    """Images from the tests' engine into Podman, which need not build them again."""
    with tempfile.TemporaryFile() as file:
        # The SDK saves one image at a time, and with it the base again.
        answer = client.api.get(client.api._url("/images/get"), params={"names": tags}, stream=True, timeout=600)
        answer.raise_for_status()
        for chunk in answer.iter_content(1 << 20):
            file.write(chunk)
        file.seek(0)
        api = docker.APIClient(base_url=daemon.url, version="auto", timeout=600)
        list(api.load_image(file))  # type: ignore[no-untyped-call]
        api.close()


def test_the_corpus(client: Any, sound: str, podman: engines.Daemon) -> None:
    tasks = {case.name: task_of(case, client, sound) for case in CASES if case.name not in NAMED}
    _copy(client, podman, sorted({task.image for name, task in tasks.items() if not name.startswith("image-")}))
    engine = Engine(podman.url)
    assert engine.podman
    judge = Judge(lambda: engine, registry.load(), session=ownership.new_session())
    wrong = {}
    for case in CASES:
        if case.name in tasks:
            record = judge.judge(tasks[case.name])
            if said := mistake(case, record):
                wrong[case.name] = said
    judge.close()
    engine = Engine(podman.url)
    left = list(engine.containers(ownership.LABEL))
    engine.close()
    assert wrong == {}
    assert left == []


def test_a_run(gate: Gate, client: Any, sound: str, podman: engines.Daemon) -> None:
    _copy(client, podman, [sound])
    rows = "".join(f"- {json.dumps({'id': f't{n}', 'image': sound})}\n" for n in range(4))
    text = f"version: 1\ndefaults: {{repo_path: /testbed, agent: {{module: agent}}, pull: never}}\ntasks:\n{rows}"
    run = gate(text, "-n", "2", f"--docker-host={podman.url}")
    assert run.status == 0, run.output
    again = gate(text, "-n", "2", f"--docker-host={podman.url}")
    assert again.status == 0 and all(task["cached"] for task in again.tasks.values())


def test_the_runtime(client: Any, podman: engines.Daemon, engine: Engine) -> None:
    """Made on one engine, brought into an empty image on the other: mounted, and as a layer or its stand-in."""
    runtime = Runtime(builder=images.base(client), agent=str(CLONE / "examples/agent.py"))
    sources.resolve(engine, Store(), runtime, engine.platform)
    empty = images.load(client, "taskgate-test/rt-empty:1", {}, client.version()["Arch"])
    _copy(client, podman, [empty])
    there = Judge(lambda: Engine(podman.url), registry.load(), session=ownership.new_session())
    for mode in ("mount", "layer"):
        task = Task("one", empty, repo_path=None, workdir="/", agent=Agent(module="agent"), pull="never")
        given = dataclasses.replace(runtime, mode=mode)
        record = there.judge(dataclasses.replace(task, runtime=given, checks={"tmp": "off"}))
        assert record.verdict == "healthy", (mode, record.reason)
    there.close()


def test_the_runner(client: Any, engine: Engine, podman: engines.Daemon, tmp_path: Path) -> None:
    """Agents as a command and as a server, on a network and cut off from all, with an endpoint."""
    images.demo(client)
    sources.resolve(engine, Store(), Runtime(builder=images.BASE), engine.platform)
    sound = "taskgate-demo/sound:1"
    _copy(client, podman, [sound])
    text = "version: 1\ndefaults: {repo_path: /testbed, pull: never}\ntasks:\n"
    server = "{server: [python3, -m, agent, --serve]}"
    text += "".join(
        f"- {{id: {name}, image: 'localhost/{sound}', network: {network}, agent: {agent}}}\n"
        for name, network, agent in (
            ("open", "bridge", "{module: agent}"), ("cut", "none", "{module: agent}"),
            ("served-open", "bridge", server), ("served-cut", "none", server),
        )
    )  # fmt: skip
    run = Run(tmp_path)
    ran = run(text, f"--docker-host={podman.url}", "--retries=0")
    assert ran.status == 0, ran.output
    again = Engine(podman.url)
    assert list(again.containers(ownership.LABEL)) == [] and list(again.volumes(ownership.LABEL)) == []
    again.close()
