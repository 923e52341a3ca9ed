"""Services beside a task's container, what the container itself may have, and the state that it starts in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import PlatformUnavailable, StartFailed
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox import devices
from taskgate.harness.sandbox.container import Container, open_container
from taskgate.harness.sandbox.services import ServiceFailed
from taskgate.harness.tasks.service_spec import Healthcheck, Service
from taskgate.harness.tasks.task import Capabilities, Task
from tests.conftest import Gate

SESSION = "tests-services"
ASK = "python3 -c \"import urllib.request as u; print(u.urlopen('http://web:8123/', timeout=5).status)\""


@pytest.fixture
def opened(client: Any, sound: str) -> Iterator[Any]:
    engine, containers = Engine(), list[Container]()

    def open(**fields: Any) -> Container:
        task = replace(Task("t", sound, repo_path="/testbed", pull="never"), **fields)
        image = engine.local(sound)
        assert image is not None
        containers.append(open_container(engine, image, task, SESSION, seconds=100))
        return containers[-1]

    yield open
    for container in containers:
        container.remove()
    left = client.containers.list(all=True, filters={"label": f"taskgate.session={SESSION}"})
    volumes = client.volumes.list(filters={"label": f"taskgate.session={SESSION}"})
    engine.close()
    assert not left and not volumes


def _web(image: str, **fields: Any) -> Service:
    probe = ("python3", "-c", "import urllib.request as u; u.urlopen('http://web:8123/')")
    serve = ("python3", "-m", "http.server", "8123")
    return replace(Service(image, entrypoint=serve, healthcheck=Healthcheck(probe, interval=0.5, retries=20)), **fields)


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_a_service_is_found_under_its_name(opened: Any, sound: str, network: str) -> None:
    after = Service(sound, command=("sleep", "60"), depends_on=("web",), volumes=("data:/data",))
    container = opened(network=network, services={"after": after, "web": _web(sound, volumes=("data:/data:ro",))})
    result = container.run(ASK, seconds=20)
    assert result.ok and result.out.strip() == "200", result.out


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"entrypoint": ("sh", "-c", "echo bad luck; exit 3")}, r"ended with exit status 3 \(its last lines: bad luck"),
        (
            {"entrypoint": ("sleep", "60"), "healthcheck": Healthcheck(("false",), interval=0.1, retries=2)},
            "is not healthy after 2 attempts: its health check ends with status 1",
        ),
        ({"image": "taskgate-test/Nowhere:1"}, "taskgate-test/Nowhere:1"),
        ({"entrypoint": ("/no/such/program",)}, "no such file"),
    ],
)
def test_a_service_that_fails_is_named(opened: Any, sound: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServiceFailed, match=f"service bad: .*{reason}"):
        opened(services={"bad": replace(Service(sound), **fields)})


def test_what_a_container_has(opened: Any) -> None:
    container = opened(
        shm_size=128 << 20, init=True, ulimits={"nofile": "100:200"}, tmpfs=("/mem:size=1m",),
        capabilities=Capabilities(add=("SYS_PTRACE",), drop=("NET_RAW",)), security_opt=("seccomp=unconfined",),
    )  # fmt: skip
    script = (
        "ulimit -Sn; ulimit -Hn; cat /proc/1/comm; df -k /dev/shm /mem | awk 'NR>1 {print $2}';"
        " grep -E '^(CapBnd|Seccomp):' /proc/self/status"
    )
    lines = container.run(script, seconds=20).out.split()
    assert lines[:5] == ["100", "200", "docker-init", "131072", "1024"]
    bounded = int(lines[lines.index("CapBnd:") + 1], 16)
    assert bounded & 1 << 19 and not bounded & 1 << 13 and lines[lines.index("Seccomp:") + 1] == "0"
    # What a command leaves is ended below an init as well.
    container.run("sleep 1000 & echo", seconds=20)
    assert "sleep" not in container.run("cat /proc/[0-9]*/comm", seconds=20).out


@pytest.mark.parametrize(
    "fields",
    [{"gpus": "all"}, {"gpus": "2"}, {"capabilities": Capabilities(add=("NO_SUCH",))}],
    ids=["gpus", "two gpus", "capability"],
)
def test_what_a_host_can_not_give_is_incompatible(opened: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(PlatformUnavailable, match="this host can't give what the task asks for"):
        opened(**fields)


def test_a_plain_task_asks_for_nothing(sound: str) -> None:
    given = {name: value for name, value in devices.host_config(Task("t", sound)).items() if value}
    assert given == {"security_opt": ["no-new-privileges"]}


def test_a_checkout_and_files_before_anything_else(opened: Any, client: Any, sound: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_text("here")
    branched = images.build(
        client,
        "taskgate-test/branched:1",
        f"FROM {sound}\nRUN cd /testbed && git checkout -q -b a__b.1234.bug && git commit -q --allow-empty -m bug"
        " && git checkout -q -",
    )
    image = Engine().local(branched)
    assert image is not None
    task = Task("t", branched, repo_path="/testbed", workdir="/testbed", checkout="a__b.1234.bug", upload=str(tmp_path))
    container = open_container(Engine(), image, task, SESSION, seconds=100)
    try:
        script = "cd /testbed && git -c safe.directory=* log -1 --format=%s && cat deep/file"
        assert container.run(script, seconds=20).out.split() == ["bug", "here"]
    finally:
        container.remove()
    with pytest.raises(StartFailed, match=r"git checkout nowhere failed: .*nowhere"):
        opened(checkout="nowhere")


def test_the_gate_judges_them(gate: Gate, sound: str) -> None:
    run = gate(f"""
version: 1
defaults: {{pull: never, repo_path: /testbed}}
tasks:
- id: good
  image: {sound}
  services:
    web: {{image: '{sound}', entrypoint: [python3, -m, http.server, "8123"]}}
- {{id: bad, image: '{sound}', services: {{web: {{image: '{sound}', entrypoint: "sh -c 'echo no luck; exit 3'"}}}}}}
- {{id: health, image: '{sound}', healthcheck: {{command: "exit 4", retries: 1}}}}
- {{id: astray, image: '{sound}', checkout: nowhere}}
- {{id: gpu, image: '{sound}', gpus: 1}}
""")
    verdicts = {name: (task["verdict"], task["check"]) for name, task in run.tasks.items()}
    assert verdicts == {
        "good": ("healthy", None),
        "bad": ("broken", "services"),
        "health": ("broken", "healthcheck"),
        "astray": ("broken", "git_commit"),
        "gpu": ("incompatible", "platform"),
    }, run.output
    assert "service web: ended with exit status 3 (its last lines: no luck)" in run.output
