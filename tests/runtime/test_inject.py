"""`taskgate inject` and `taskgate runtime`, as commands: fan-out, resumption, registry, pruning."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import NoSpace
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import injected
from taskgate.harness.runtime.inject import Injection
from taskgate.harness.tasks import manifest
from tests import registry
from tests.conftest import CLONE, Gate

TASKGATE = str(Path(sys.executable).with_name("taskgate"))
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose cache of runtimes is empty."""
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def taskgate(tmp_path: Path, home: dict[str, str]) -> Command:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [TASKGATE, *args]
        return subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def thing(tmp_path: Path) -> str:
    """A small runtime: a folder with a program; unlike any other, so that what is made of it is this test's own."""
    (tmp_path / "thing/bin").mkdir(parents=True)
    (tmp_path / "thing/bin/thing").write_text(f"#!/bin/sh\necho {tmp_path}\n")
    (tmp_path / "thing/bin/thing").chmod(0o755)
    (tmp_path / "thing/big").write_bytes(os.urandom(300_000))
    return "{directory: thing}"


@pytest.fixture(autouse=True)
def tidy(client: Any, tmp_path: Path) -> Iterator[None]:
    """What a test makes goes with it: images with a runtime of its own cache in them."""
    yield
    own = {path.stem for path in tmp_path.glob("cache/taskgate/runtimes/*.json")}
    # Not images.list: that looks at each one, and another test may have taken it away by then.
    for image in client.api.images(filters={"label": injected.LABEL}):
        if image["Labels"][injected.LABEL].split()[0] in own:
            client.images.remove(image["Id"], force=True)


def _tags(client: Any, sound: str, count: int) -> list[str]:
    made = [f"taskgate-test/inject-{number}:v1" for number in range(count)]
    return [images.build(client, tag, f"FROM {sound}\nLABEL number={tag}") for tag in made]


def _manifest(folder: Path, thing: str, tags: list[str], more: str = "") -> None:
    defaults = f"{{repo_path: /testbed, pull: never, python: null, agent: null, runtime: {thing}}}"
    rows = "".join(f"- '{tag}'\n" for tag in tags)
    (folder / "m.yaml").write_text(f"version: 1\ndefaults: {defaults}\ntasks:\n{rows}{more}")


def test_every_image_gets_the_runtime(
    taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str, gate: Gate
) -> None:
    more = "- {id: gone, image: 'taskgate-test/Gone:1'}\n- {id: none, image: 'x/y:1', runtime: null}\n"
    _manifest(tmp_path, thing, _tags(client, sound, 3), more)
    done = taskgate("inject", "--images=m.yaml", "--tag={repository}:{tag}-injected", "--out=out")
    assert done.returncode == 1 and "4 images: " in done.stdout, done.stdout + done.stderr
    made = manifest.load(tmp_path / "out/manifest.yaml")
    assert [task.image for task in made] == [*(f"taskgate-test/inject-{n}:v1-injected" for n in range(3)), "x/y:1"]
    prefix = made[0].runtime.path if made[0].runtime else ""
    said = client.containers.run(made[0].image, [f"{prefix}/bin/thing"], remove=True)
    assert said.decode().strip() == str(tmp_path)
    # What could not be had is on the skip list, with the reason.
    listed = (tmp_path / "config/known_broken_images.txt").read_text()
    assert '"check": "injection"' in listed and "\ngone\n" in listed
    # What has it already is left as it is.
    (tmp_path / "again.yaml").write_text((tmp_path / "out/manifest.yaml").read_text())
    assert taskgate("inject", "--images=again.yaml", "--out=out3").returncode == 4
    # Nothing is done twice.
    again = taskgate("inject", "--images=m.yaml", "--tag={repository}:{tag}-injected", "--out=out")
    assert again.stdout.count("known  ") == 3 and " done " not in again.stdout


def test_one_image_with_two_runtimes(taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str) -> None:
    (image,) = _tags(client, sound, 1)
    (tmp_path / "other/bin").mkdir(parents=True)
    (tmp_path / "other/bin/other").write_text(str(tmp_path))
    rows = f"- {{id: a, image: '{image}'}}\n- {{id: b, image: '{image}', runtime: {{directory: other}}}}\n"
    _manifest(tmp_path, thing, [], rows)
    done = taskgate("inject", "--images=m.yaml", "--out=out")
    assert done.returncode == 0, done.stdout + done.stderr
    a, b = manifest.load(tmp_path / "out/manifest.yaml")
    assert a.image != b.image and a.runtime and b.runtime and a.runtime.path != b.runtime.path
    for task, program in ((a, "thing"), (b, "other")):
        assert task.runtime
        client.containers.run(task.image, ["ls", f"{task.runtime.path}/bin/{program}"], remove=True)


def test_the_new_manifest_is_judged(taskgate: Command, tmp_path: Path, client: Any, sound: str, gate: Gate) -> None:
    runtime = f"{{agent: {CLONE}/examples/agent.py, builder: '{images.base(client)}'}}"
    bare = images.build(client, "taskgate-test/inject-bare:v1", f"FROM {sound}\nRUN rm /usr/bin/python3* /usr/bin/git")
    head = f"version: 1\ndefaults: {{repo_path: /testbed, pull: never, agent: {{module: agent}}, runtime: {runtime}}}\n"
    (tmp_path / "m.yaml").write_text(f"{head}tasks: ['{bare}']\n")
    done = taskgate("inject", "--images=m.yaml", "--mode=build", "--out=out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("out/dockerfiles/*/Dockerfile"))) == 1
    run = gate((tmp_path / "out/manifest.yaml").read_text())
    assert run.status == 0 and run.verdicts["counts"]["healthy"] == 1, run.output


def test_each_task_in_its_own_way(taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str) -> None:
    """`--mode` counts for all; without it, what the task's runtime says."""
    one, two, three = _tags(client, sound, 3)
    rows = f"- {{id: two, image: '{two}', runtime: {{directory: thing, mode: build}}}}\n"
    rows += f"- {{id: three, image: '{three}', runtime: {{directory: thing, mode: mount}}}}\n"
    _manifest(tmp_path, thing, [one], rows)
    done = taskgate("inject", "--images=m.yaml", "--out=out", "--tag=taskgate-test/{name}:way")
    assert done.returncode == 0 and "3 images: 3 done" in done.stdout, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "out/dockerfiles").iterdir()] == ["taskgate-test_inject-1_way"]
    done = taskgate("inject", "--images=m.yaml", "--out=other", "--tag=taskgate-test/{name}:other", "--mode=layer")
    assert done.returncode == 0 and not (tmp_path / "other/dockerfiles").exists(), done.stdout + done.stderr
    done = taskgate("inject", "--images=m.yaml", "--out=third", "--tag=taskgate-test/all:way")
    assert done.returncode == 4 and "two images would both" in done.stderr, done.stderr


def test_an_out_that_can_not_be_written(taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str) -> None:
    """No image is broken by it."""
    _manifest(tmp_path, thing, _tags(client, sound, 1))
    (tmp_path / "out/manifest.yaml").mkdir(parents=True)
    done = taskgate("inject", "--images=m.yaml", "--out=out")
    assert done.returncode == 10 and "out/manifest.yaml: " in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "file").write_text("")
    done = taskgate("inject", "--images=m.yaml", "--out=file/out")
    assert done.returncode == 10 and "Traceback" not in done.stderr, done.stderr


def test_a_killed_run_is_taken_up_again(
    taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str, home: dict[str, str]
) -> None:
    _manifest(tmp_path, thing, _tags(client, sound, 8))
    command = [TASKGATE, "inject", "--images=m.yaml", "--out=out", "-j1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=home, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    seen = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(line.startswith("done") for line in seen)
    again = taskgate("inject", "--images=m.yaml", "--out=out")
    assert again.returncode == 0 and again.stdout.count("\nknown") + again.stdout.startswith("known") >= 3, again.stdout
    assert len(manifest.load(tmp_path / "out/manifest.yaml")) == 8
    done = [json.loads(line) for line in (tmp_path / "out/injected.jsonl").read_text().splitlines()]
    assert len({line["tag"] for line in done}) == 8
    assert not client.containers.list(all=True, filters={"label": f"taskgate.pid={process.pid}"})


def test_pushing_sends_each_layer_once(taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str) -> None:
    with registry.registry() as port:
        proxy = registry.Proxy(port)
        try:
            tags = _tags(client, sound, 2)
            _manifest(tmp_path, thing, tags[:1])
            template = f"--tag=127.0.0.1:{proxy.port}/{{name}}:{{hash}}"
            done = taskgate("inject", "--images=m.yaml", template, "--push", "--out=out")
            assert done.returncode == 0, done.stdout + done.stderr
            first, proxy.received = proxy.received, 0
            assert first > 300_000
            # Another image: its base's layers and the runtime's are there already, in another repository.
            _manifest(tmp_path, thing, tags)
            done = taskgate("inject", "--images=m.yaml", template, "--push", "--out=out")
            assert done.returncode == 0 and "known" in done.stdout, done.stdout + done.stderr
            assert proxy.received < 100_000
            (new,) = [task.image for task in manifest.load(tmp_path / "out/manifest.yaml") if "inject-1" in task.image]
            client.images.remove(new)
            client.images.pull(new)
            client.images.remove(new)
            # A registry that refuses is infra: nothing goes on the skip list, and the next run pushes.
            proxy.fault = registry.answer(403, only="/v2/inject")
            done = taskgate("inject", "--images=m.yaml", f"{template}x", "--push", "--out=out2", "--skip-list=s.txt")
            assert done.returncode == 10 and "infra" in done.stdout, done.stdout + done.stderr
            assert not (tmp_path / "s.txt").exists() or "injection" not in (tmp_path / "s.txt").read_text()
        finally:
            proxy.close()


def test_no_room_is_known_before_anything_is_made(
    tmp_path: Path, client: Any, sound: str, thing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _manifest(tmp_path, thing, _tags(client, sound, 2))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    injection = Injection(Engine, tmp_path / "out", tag=None, mode="layer", push=False, jobs=1)
    with pytest.raises(NoSpace, match="2 images need"):
        list(injection.run(manifest.load(tmp_path / "m.yaml")))
    assert not (tmp_path / "out/injected.jsonl").exists()


def test_pruning_keeps_what_is_used(
    taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str, gate: Gate
) -> None:
    _manifest(tmp_path, thing, _tags(client, sound, 1))
    text = (tmp_path / "m.yaml").read_text()
    assert taskgate("inject", "--images=m.yaml", "--out=out").returncode == 0
    assert gate(text, env={"XDG_CACHE_HOME": str(tmp_path / "cache")}).status == 0
    (listed,) = taskgate("runtime", "list").stdout.splitlines()
    name = listed.split()[0]
    kept = taskgate("runtime", "prune", "--dry-run", "--images=m.yaml").stdout
    assert name not in kept
    # Others may have runtimes on this engine: they are not this test's to prune.
    gone = taskgate("runtime", "prune", "--dry-run").stdout
    assert f"would remove bundle {name}" in gone and f"would remove volume taskgate-runtime-{name}" in gone
    assert "would remove image taskgate/injected:" in gone
    engine = Engine()
    assert engine.remove_volume(f"taskgate-runtime-{name}")
    engine.close()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["inject"], "--images"),
        (["nonsense"], "invalid choice"),
        (["inject", "--images=absent.yaml"], "absent.yaml"),
        (["inject", "--images=m.yaml", "--jobs=0"], "--jobs"),
        (["inject", "--images=m.yaml", "--tag={nope}"], "--tag"),
        (["inject", "--images=m.yaml", "--tag=UPPER CASE"], "--tag"),
        (["inject", "--images=m.yaml", "--tag={repository}:{tag}"], "take the name"),
        (["inject", "--images=m.yaml", "--tag=x/y:z"], "two images would both"),
        (["inject", "--images=plain.yaml"], "no task asks for a runtime"),
        (["runtime", "build", "--images=plain.yaml"], "no task asks for a runtime"),
    ],
)
def test_mistakes_are_told(
    taskgate: Command, tmp_path: Path, client: Any, sound: str, thing: str, args: list[str], said: str
) -> None:
    _manifest(tmp_path, thing, _tags(client, sound, 2))
    (tmp_path / "plain.yaml").write_text(f"version: 1\ntasks: ['{sound}']\n")
    done = taskgate(*args)
    assert done.returncode == 4 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_ctrl_c_is_no_accident(tmp_path: Path, client: Any, sound: str, thing: str, home: dict[str, str]) -> None:
    _manifest(tmp_path, thing, _tags(client, sound, 8))
    command = [TASKGATE, "inject", "--images=m.yaml", "--out=out", "-j1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command again" in said and "Traceback" not in said, said
