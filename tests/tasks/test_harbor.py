"""Harbor and Terminal-Bench 2: what their own harness makes of a task, by harbor 0.25.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import UsageError
from taskgate.harness.tasks import manifest, manifest_dump, task_set
from taskgate.harness.tasks.agent_tools import McpServer
from taskgate.harness.tasks.importers.importer import Row
from taskgate.harness.tasks.service_spec import Healthcheck, Service
from taskgate.harness.tasks.task import Task

IMAGE = '[environment]\ndocker_image = "demo/one:1"\n'


def _write(folder: Path, toml: str, **files: str) -> Path:
    (folder / "environment").mkdir(parents=True)
    (folder / "task.toml").write_text(toml)
    for name, text in files.items():
        (folder / "environment" / name.replace("_", "-", 1).replace("__", ".")).write_text(text)
    return folder


def _one(folder: Path, toml: str = IMAGE, compose: str | None = None, dockerfile: str | None = None) -> Task:
    _write(folder, toml)
    if compose:
        (folder / "environment/docker-compose.yaml").write_text(compose)
    if dockerfile:
        (folder / "environment/Dockerfile").write_text(dockerfile)
    (task,) = task_set.load(str(folder))
    return task


def _row(folder: Path) -> Row:
    found = task_set.read(str(folder))
    assert isinstance(found, tuple)
    return found[1][0]


def test_the_images_own_workdir_counts(tmp_path: Path) -> None:
    task = _one(tmp_path / "t")
    assert task.workdir is None and task.start_dir("/of-the-image") == "/of-the-image"


SIDECAR = """
services:
  redis:
    image: redis:7
    command: redis-server --save ""
    environment: {PASSWORD: "${SECRET:-none}", WHERE: "${PLACE}"}
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1m30s, timeout: 5s, retries: 4}
    volumes: ["data:/data"]
  main:
    depends_on: {redis: {condition: service_healthy}}
    environment: {REDIS: "redis:6379"}
volumes: {data: {}}
"""


def test_a_compose_file_is_laid_over_an_implicit_main(tmp_path: Path) -> None:
    task = _one(tmp_path / "t", IMAGE + 'env = {PLACE = "here"}\n', SIDECAR)
    assert task.image == "demo/one:1" and task.env == {"REDIS": "redis:6379", "PLACE": "here"}
    assert task.services == {
        "redis": Service(
            "redis:7", command=("redis-server", "--save", ""), env={"PASSWORD": "none", "WHERE": "here"},
            healthcheck=Healthcheck(("redis-cli", "ping"), interval=90, timeout=5, retries=4), volumes=("data:/data",),
        )
    }  # fmt: skip
    path = tmp_path / "written.yaml"
    path.write_text(manifest_dump.dump([task]))
    assert manifest.load(path) == [task]


def test_a_sidecar_that_waits_for_the_task(tmp_path: Path) -> None:
    task = _one(tmp_path / "t", IMAGE, "services: {main: {}, probe: {image: x, depends_on: [main]}}")
    assert task.services == {"probe": Service("x")}


def test_a_sidecar_alone_is_not_the_tasks_image(tmp_path: Path) -> None:
    _write(tmp_path / "t", "[agent]\ntimeout_sec = 5\n")
    (tmp_path / "t/environment/docker-compose.yaml").write_text("services: {redis: {image: 'redis:7'}}")
    with pytest.raises(UsageError, match="names no image, and there is no Dockerfile"):
        task_set.load(str(tmp_path / "t"))
    (tmp_path / "t/environment/Dockerfile").write_text("FROM x\nWORKDIR /app\n")
    row = _row(tmp_path / "t")
    assert row.build and row.fields["services"] == {"redis": {"image": "redis:7"}} and row.fields["workdir"] == "/app"


def test_a_service_that_is_built(tmp_path: Path) -> None:
    _write(tmp_path / "t", IMAGE)
    (tmp_path / "t/environment/db").mkdir()
    (tmp_path / "t/environment/db/Dockerfile").write_text("FROM postgres\n")
    (tmp_path / "t/environment/docker-compose.yaml").write_text("services: {db: {build: ./db}}")
    row = _row(tmp_path / "t")
    assert row.build is None and row.service_builds["db"].context.name == "db"
    with pytest.raises(UsageError, match="taskgate build"):
        task_set.load(str(tmp_path / "t"))


@pytest.mark.parametrize(
    ("toml", "network", "seconds"),
    [
        (IMAGE, "bridge", None),
        (IMAGE + "allow_internet = false\n", "none", None),
        (IMAGE + "allow_internet = false\nallowed_hosts = ['a.b']\nnetwork_mode = 'allowlist'\n", "none", None),
        (IMAGE + "network_mode = 'no-network'\n[agent]\nnetwork_mode = 'public'\n", "bridge", None),
        (IMAGE + "[agent]\ntimeout_sec = 10\n[[steps]]\nname = 'a'\n[[steps]]\nname = 'b'\n", "bridge", 20),
        (
            IMAGE + "[[steps]]\nname = 'a'\n[steps.agent]\ntimeout_sec = 5\nnetwork_mode = 'no-network'\n"
            "[[steps]]\nname = 'b'\n[steps.agent]\ntimeout_sec = 7.5\n",
            "none",
            12.5,
        ),
        (IMAGE + "[[steps]]\nname = 'a'\n[steps.agent]\ntimeout_sec = 5\n[[steps]]\nname = 'b'\n", "bridge", None),
    ],
)
def test_network_and_time_of_all_steps(tmp_path: Path, toml: str, network: str, seconds: float | None) -> None:
    task = _one(tmp_path / "t", toml)
    assert (task.network, task.budget.seconds) == (network, seconds)


@pytest.mark.parametrize(("name", "platform"), [("Linux", "linux/amd64"), ("windows", "windows/amd64")])
def test_operating_systems(tmp_path: Path, name: str, platform: str) -> None:
    assert _one(tmp_path / "t", IMAGE + f"os = '{name}'\n").platform == platform


def test_an_unknown_system_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"environment.os: must be one of linux, windows"):
        _one(tmp_path / "t", IMAGE + "os = 'plan9'\n")


def test_the_environment_as_harbor_resolves_it(tmp_path: Path) -> None:
    env = '{A = "x$y", B = "${NONE:-d$}", C = "${NONE}", D = "pre-${NONE}", E = "$$"}'
    assert _one(tmp_path / "t", IMAGE + f"env = {env}\n").env == {"A": "x$y", "B": "d$", "D": "pre-${NONE}", "E": "$$"}


WHOLE = """
artifacts = ["/app/out", {source = "/app/log", destination = "log"}]
[environment]
docker_image = "demo/one:1"
skills_dir = "/skills"
gpus = 2
gpu_types = ["H100"]
[environment.healthcheck]
command = "test -e /ready"
interval_sec = 2
start_period_sec = 1.5
[[environment.mcp_servers]]
name = "search"
transport = "http"
url = "http://search:8080/mcp"
headers = {X-Team = "a", Authorization = "Bearer ${TOKEN}"}
"""


def test_all_that_an_environment_says(tmp_path: Path) -> None:
    task = _one(tmp_path / "t", WHOLE)
    assert task.gpus == "2" and task.skills_dir == "/skills" and task.artifacts == ("/app/out", "/app/log")
    assert task.healthcheck == Healthcheck(("/bin/sh", "-c", "test -e /ready"), interval=2, start_period=1.5)
    server = McpServer("search", transport="streamable-http", url="http://search:8080/mcp", headers={"X-Team": "a"})
    assert task.mcp_servers == (server,)
    path = tmp_path / "written.yaml"
    path.write_text(manifest_dump.dump([task]))
    assert manifest.load(path) == [task]


def test_files_of_a_prebuilt_task_are_copied_in(tmp_path: Path) -> None:
    """Only where there is nothing to build from."""
    _write(tmp_path / "with", IMAGE)
    (tmp_path / "with/environment/data.csv").write_text("1")
    _write(tmp_path / "without", IMAGE)
    _write(tmp_path / "built", IMAGE)
    (tmp_path / "built/environment/Dockerfile").write_text("FROM x\n")
    found = {task.id: task.upload for task in task_set.load(str(tmp_path))}
    assert found == {"with": str(tmp_path / "with/environment"), "without": None, "built": None}


@pytest.mark.parametrize(
    ("compose", "field"),
    [
        ("services: {main: {privileged: true}}", "services.main.privileged"),
        ("services: {main: {devices: [/dev/kvm]}}", "services.main.devices"),
        ("services: {main: {volumes: ['./a:/a']}}", "services.main.volumes"),
        ("services: {main: {command: /start-database}}", "services.main.command"),
        ("services: {main: {env_file: .env}}", "services.main.env_file"),
        ("services: {main: {}, db: {image: x, volumes: ['/var/run/docker.sock:/s']}}", "services.db.volumes"),
        ("services: {main: {extends: {service: x}}}", "services.main.extends"),
        ("services: {main: {}}\nsecrets: {a: {file: x}}", "secrets"),
        ("services: {main: {}}\nnetworks: {a: {external: true}}", "networks.a.external"),
    ],
)
def test_what_is_not_carried_over_is_an_error(tmp_path: Path, compose: str, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        _one(tmp_path / "t", IMAGE, compose)
    assert caught.value.field == field and "set ignore_unsupported to true" in str(caught.value)
    (tmp_path / "d.yaml").write_text("ignore_unsupported: true\n")
    assert task_set.load(str(tmp_path / "t"), defaults=str(tmp_path / "d.yaml"))[0].image == "demo/one:1"
    assert task_set.load(f"{tmp_path / 't'}?ignore_unsupported=true")[0].image == "demo/one:1"


def test_what_a_compose_file_asks_of_the_host(tmp_path: Path) -> None:
    compose = """
services:
  main:
    cap_add: [SYS_PTRACE]
    cap_drop: [NET_RAW]
    security_opt: ["seccomp=unconfined"]
    shm_size: 1gb
    init: true
    tmpfs: /run
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    platform: linux/arm64
    deploy: {resources: {limits: {cpus: "2", memory: 3G}, reservations: {devices: [{capabilities: [gpu], count: 1}]}}}
"""
    task = _one(tmp_path / "t", IMAGE, compose)
    assert (task.capabilities.add, task.capabilities.drop) == (("SYS_PTRACE",), ("NET_RAW",))
    assert (task.shm_size, task.init, task.tmpfs, task.gpus) == (1 << 30, True, ("/run",), "1")
    assert task.ulimits == {"nofile": "10:20", "nproc": "5:5"} and task.security_opt == ("seccomp=unconfined",)
    assert (task.limits.cpus, task.limits.memory, task.platform) == (2, 3 << 30, "linux/arm64")


def _registry(folder: Path, tasks: list[dict[str, Any]]) -> Path:
    path = folder / "registry.json"
    path.write_text(json.dumps([{"name": "set", "version": "1.0", "description": "", "tasks": tasks}]))
    return path


def test_a_registry(tmp_path: Path) -> None:
    _write(tmp_path / "tasks/one", IMAGE)
    path = _registry(tmp_path, [{"name": "one", "path": "tasks/one"}])
    for source in (path, f"{path}?dataset=set", f"{path}?dataset=set@1.0"):
        assert [task.id for task in task_set.load(str(source))] == ["one"]
    with pytest.raises(UsageError, match=r"dataset: has 0 datasets of that name; there are set@1.0"):
        task_set.load(f"{path}?dataset=other")
    path = _registry(tmp_path, [{"name": "two", "git_url": "https://a/b", "git_commit_id": "abc", "path": "tasks/two"}])
    with pytest.raises(UsageError, match="clone https://a/b at abc into"):
        task_set.load(str(path))


def test_a_digest_has_a_form(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text("[[tasks]]\nname = 'a/b'\ndigest = 'latest'\n")
    with pytest.raises(UsageError, match=r"tasks\[0\].digest: must be sha256"):
        task_set.load(str(tmp_path))
