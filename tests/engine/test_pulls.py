"""Pulling: what is shared is fetched once, the next image comes while this one is checked, and a disk that is smaller
than the manifest will do."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from examples import images
from taskgate.checks._registry import Check, chosen, load
from taskgate.harness.base.errors import ImageNotFound
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.pulls import Pulls
from taskgate.harness.gate.gate import Gate as Judge
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.tasks.task import Task
from tests import engines, registry
from tests.conftest import Gate
from tests.faults.loopback import lent

SHELL = images.archive({"bin/sh": Path("/bin/busybox").read_bytes()}, {"bin/sh": 0o755})
MB = 1 << 20
CHECKS = "--checks=shell"


Publish = Callable[[int, int], list[str]]


@pytest.fixture
def publish(port: int, proxy: registry.Proxy, client: Any) -> Iterator[Publish]:
    """Images that only the registry has: `publish(count, megabytes)`, each with a layer of its own on shared ones."""
    made: list[str] = []

    def publish(count: int, size: int) -> list[str]:
        word = secrets.token_hex(4)
        shared = images.archive({"shared": secrets.token_bytes(3 * MB)})
        for number in range(count):
            own = images.archive({"own": secrets.token_bytes(size * MB)})
            registry.publish(
                port, f"{word}/image-{number}:1", [SHELL, shared, own], architecture=client.version()["Arch"]
            )
            made.append(f"127.0.0.1:{proxy.port}/{word}/image-{number}:1")
        return made

    yield publish
    for name in made:
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.remove(name)


def _blobs(proxy: registry.Proxy) -> list[str]:
    return [path.rpartition("/")[2] for method, path in proxy.seen if method == "GET" and "/blobs/" in path]


@pytest.mark.parametrize("which", ["docker", "podman"])
def test_layers_that_images_share_are_pulled_once(publish: Publish, proxy: registry.Proxy, which: str) -> None:
    """Four workers, four images, at the same moment."""
    names = publish(4, 1)
    with contextlib.ExitStack() as held:
        url = held.enter_context(engines.podman(insecure=f"127.0.0.1:{proxy.port}")).url if which == "podman" else None

        def pull(name: str) -> str:
            engine = Engine(url, pulls=4)
            try:
                return engine.image(ImageRequest(name)).digest
            finally:
                engine.close()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(pull, names))) == 4
    layers = _blobs(proxy)
    # Four configurations, four layers of their own, two shared ones (the shell's may be there already).
    assert len(layers) == len(set(layers)), sorted(layers)


def test_the_next_image_comes_while_this_one_is_checked(publish: Publish, proxy: registry.Proxy) -> None:
    names = publish(2, 1)

    def waits_for_the_next(sandbox: Any) -> Iterator[str]:
        """The first one's check ends when the second one's image is asked for."""
        if sandbox.task.id == "0":
            sandbox.sh("true")
            for _ in range(200):
                if any("image-1/manifests" in path for _, path in proxy.seen):
                    return
                time.sleep(0.1)
            yield "nobody asked for it"

    judge = _judge([*chosen(load(), ["container_start"]), Check("waits", waits_for_the_next, ())])
    tasks = [Task(str(number), name, network="none") for number, name in enumerate(names)]
    try:
        assert judge.judge(tasks[0], tasks[1]).verdict is Verdict.HEALTHY
        asked = len(proxy.seen)
        assert judge.judge(tasks[1]).verdict is Verdict.HEALTHY
        # It was there, or under way; nothing of it is asked for twice.
        assert len(_blobs(proxy)) == len(set(_blobs(proxy))), proxy.seen[asked:]
    finally:
        judge.close()


def _judge(checks: list[Check], **more: Any) -> Judge:
    return Judge(Engine, checks, session=ownership.new_session(), **more)


def test_what_is_pulled_ahead_in_vain_blames_nobody(publish: Publish, proxy: registry.Proxy) -> None:
    """A refusal of the pull ahead is no verdict: it is asked again in its turn. A missing image is missing."""
    names = publish(2, 1)
    proxy.fault = registry.answer(503, only="image-1/manifests", times=2)
    missing = Task("missing", names[0].replace("image-0", "nosuch"))
    first, second = (Task(str(number), name) for number, name in enumerate(names))
    judge = _judge(chosen(load(), ["shell"]))
    try:
        assert judge.judge(first, second).verdict is Verdict.HEALTHY
        assert judge.judge(second, missing).verdict is Verdict.HEALTHY
        record = judge.judge(missing, first)
        assert (record.verdict, record.check) == (Verdict.BROKEN, "image_exists")
    finally:
        judge.close()


def test_a_disk_smaller_than_the_manifest(gate: Gate, publish: Publish, port: int) -> None:
    """Sixteen images of 12 MB on a disk of 120."""
    names = publish(16, 12)
    rows = "".join(f"- {{id: t{number}, image: '{name}'}}\n" for number, name in enumerate(names))
    # The same images a second time: what was removed is pulled again, what is still needed stays.
    rows += "".join(f"- {{id: u{number}, image: '{name}'}}\n" for number, name in enumerate(names[:3]))
    head = "version: 1\ndefaults: {repo_path: null, python: null, network: none, checks: {network: off}}\ntasks:\n"
    text = head + rows
    with engines.dockerd(size="120m") as daemon, lent(daemon.pid, int(names[0].split(":")[1].split("/")[0])):
        options = ("-n", "2", f"--docker-host={daemon.url}", CHECKS)
        run = gate(text, *options, "--disk-budget=60m")
        assert run.status == 0, run.output
        assert len(run.tasks) == 19
        api = docker.APIClient(base_url=daemon.url, version="auto")
        left = api.images()
        assert 0 < len(left) <= 5, [image["RepoTags"] for image in left]
        # Without it the disk is full, which blames no image.
        for image in left:
            api.remove_image(image["RepoTags"][0], force=True)
        full = gate(text, *options, "--recheck")
        assert full.status == 10 and full.listed == set(), full.output
        assert {task["verdict"] for task in full.tasks.values()} == {"healthy", "infra"}
        api.close()


def test_nothing_is_pulled_to_see_that_nothing_has_changed(
    gate: Gate, publish: Publish, proxy: registry.Proxy, client: Any
) -> None:
    """Images that the engine has no more: their registry says whether they are the ones that were judged."""
    names = publish(3, 1)
    rows = "".join(f"- {{id: t{number}, image: '{name}'}}\n" for number, name in enumerate(names))
    text = f"version: 1\ndefaults: {{repo_path: null, python: null}}\ntasks:\n{rows}"
    assert gate(text, CHECKS).status == 0
    for name in names:
        client.images.remove(name)
    proxy.seen.clear()
    for workers in ([], ["-n", "2"]):
        run = gate(text, CHECKS, *workers)
        assert run.status == 0 and all(task["cached"] for task in run.tasks.values()), run.output
    assert client.images.list(filters={"reference": f"127.0.0.1:{proxy.port}/*/*"}) == []
    # Another image under the old name is looked at.
    registry.publish(
        int(names[0].partition(":")[2].partition("/")[0]),
        names[0].partition("/")[2],
        [SHELL],
        architecture=client.version()["Arch"],
    )
    run = gate(text, CHECKS)
    assert [task["cached"] for task in run.tasks.values()] == [False, True, True], run.output


@pytest.fixture
def budget(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., DiskBudget]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def budget(size: int, **wanted: int) -> DiskBudget:
        return DiskBudget(engine.url, size, wanted, "session")

    return budget


def test_what_was_there_before_stays(publish: Publish, engine: Engine, client: Any, budget: Any) -> None:
    mine, strange = publish(2, 2)
    client.images.pull(strange)
    kept = budget(1)
    kept.use(strange)
    assert kept.make_room(engine, wait=True)
    with kept.pulling(engine, mine):
        engine.image(ImageRequest(mine))
    # In use: it stays. Judged: it goes.
    assert not kept.make_room(engine, wait=False) and engine.local(mine)
    kept.release(mine)
    assert kept.make_room(engine, wait=True)
    assert engine.local(mine) is None and engine.local(strange)


def test_what_a_killed_run_pulled_is_not_forgotten(publish: Publish, engine: Engine, budget: Any) -> None:
    (name,) = publish(1, 2)
    if not os.fork():
        # A process of its own, which dies with the image in use.
        theirs = Engine(engine.url)
        child = budget(1 << 30)
        child.make_room(theirs, wait=True)
        with child.pulling(theirs, name):
            theirs.image(ImageRequest(name))
        os._exit(0)
    os.wait()
    assert engine.local(name)
    budget(1).make_room(engine, wait=True)
    assert engine.local(name) is None


def test_what_no_task_is_left_for_goes_first(publish: Publish, engine: Engine, budget: Any) -> None:
    first, second, third = publish(3, 2)
    kept = budget(30 * MB, **{first: 2, second: 1, third: 1})
    for name in (first, second):
        assert kept.make_room(engine, wait=True)
        with kept.pulling(engine, name):
            engine.image(ImageRequest(name))
        kept.release(name)
    # Longer unused is the first, but a task is still to come on it.
    # One that goes makes room enough.
    kept._size = 15 * MB
    kept.make_room(engine, wait=False)
    assert engine.local(first) and engine.local(second) is None


def test_a_pull_waits_for_what_others_need(publish: Publish, engine: Engine, budget: Any) -> None:
    """Another process has the room; when it is done, this one's turn comes."""
    (name,) = publish(1, 2)
    kept = budget(1 << 30)
    assert kept.make_room(engine, wait=True)
    with kept.pulling(engine, name):
        engine.image(ImageRequest(name))
    path = kept._path
    told = json.loads(path.read_text())
    ready, release = os.pipe()
    child = os.fork()
    if not child:
        os.close(release)
        os.read(ready, 1)
        os._exit(0)
    os.close(ready)
    told["images"][name]["users"] = [[child, ownership.started(child)]]
    path.write_text(json.dumps(told))
    kept._size = 1
    answered: list[bool] = []
    waiting = threading.Thread(target=lambda: answered.append(kept.make_room(engine, wait=True)))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive() and engine.local(name)
    os.close(release)
    os.waitpid(child, 0)
    waiting.join(30)
    assert answered == [True] and engine.local(name) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": 1}', '{"images": {"a": {}}}', '{"coming": 7}'])
def test_a_ledger_that_makes_no_sense_removes_nothing(engine: Engine, budget: Any, sound: str, text: str) -> None:
    kept = budget(1)
    kept._path.write_text(text)
    assert kept.make_room(engine, wait=True)
    kept.release(sound)
    assert engine.local(sound)


def test_the_next_task_on_the_same_image_keeps_it(publish: Publish, engine: Engine, budget: Any) -> None:
    (name,) = publish(1, 2)
    kept = budget(1 << 30)
    pulls = Pulls(Engine, kept)
    first, second = Task("first", name), Task("second", name)
    pulls.image(engine, first.request)
    pulls.expect(second.request)
    pulls.release(first.request)
    kept._size = 1
    assert not kept.make_room(engine, wait=False) and engine.local(name)
    pulls.image(engine, second.request)
    pulls.release(second.request)
    assert kept.make_room(engine, wait=False) is False and engine.local(name) is None


def test_a_budget_that_is_none(gate: Gate, sound: str) -> None:
    run = gate(f"version: 1\ntasks: ['{sound}']\n", "--disk-budget=plenty")
    assert run.status == 4 and "--disk-budget: 'plenty' must be a size" in run.output


def test_an_image_that_is_missing_is_missing_with_a_budget_too(publish: Publish, engine: Engine, budget: Any) -> None:
    (name,) = publish(1, 1)
    kept = budget(1 << 30)
    pulls = Pulls(Engine, kept)
    task = Task("one", name.replace("image-0", "nosuch"))
    for _ in range(2):
        with pytest.raises(ImageNotFound):
            pulls.image(engine, task.request)
    pulls.expect(task.request)
    with pytest.raises(ImageNotFound):
        pulls.image(engine, task.request)
    assert json.loads(kept._path.read_text())["coming"] == []
