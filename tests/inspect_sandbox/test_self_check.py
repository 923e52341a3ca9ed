"""inspect_ai's own conformance suite for sandboxes, all of it, on this provider: on Docker and on Podman."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")

from inspect_ai.util import SandboxEnvironment, SandboxEnvironmentSpec
from inspect_ai.util._sandbox import self_check
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv

from examples import images
from taskgate.harness.inspect_sandbox import SandboxConfig, TaskgateSandbox
from tests import engines
from tests.library import bring, named

CASES = list(self_check.__all__)
# Root may write what is read-only.
MEANINGLESS_AS_ROOT = {"test_write_text_file_without_permissions", "test_write_binary_file_without_permissions"}
# Two cases look for what survived a deadline with `ps`, and see nothing without one.
NEED_PS = {"test_exec_timeout_kills_process", "test_exec_timeout_kills_child_processes"}
USERS = {"root": "root", "named": "agent", "uid": "4321"}


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine_url(request: pytest.FixtureRequest, client: Any, sound: str) -> Iterator[tuple[str, Any]]:
    import docker

    from taskgate.harness.engine.discovery import find_engine

    if request.param == "docker":
        yield find_engine().url, client
        return
    with engines.podman() as daemon:
        there = docker.DockerClient(base_url=daemon.url, version="auto", timeout=120)
        yield daemon.url, there
        there.close()


@pytest.fixture(scope="module", params=["ps", "no ps"])
def image(request: pytest.FixtureRequest, engine_url: tuple[str, Any], client: Any, sound: str) -> tuple[str, bool]:
    has_ps = request.param == "ps"
    lines = f"FROM {sound}\nRUN mkdir -m 1777 /work\nWORKDIR /work\n"
    files = {}
    if has_ps:
        lines += "COPY busybox /usr/local/bin/ps\nRUN chmod 755 /usr/local/bin/ps\n"
        files = {"busybox": Path("/bin/busybox").read_bytes()}
    name = images.build(client, f"taskgate-test/inspect-{'ps' if has_ps else 'plain'}:1", lines, files)
    if engine_url[1] is not client:
        bring(client, engine_url[1], name)
    return named(engine_url[1], name), has_ps


@pytest.fixture(scope="module", params=USERS)
def sandbox(
    request: pytest.FixtureRequest, engine_url: tuple[str, Any], image: tuple[str, bool]
) -> Iterator[TaskgateSandbox]:
    config = SandboxConfig(image=image[0], user=USERS[request.param], engine=engine_url[0])
    environments = anyio.run(TaskgateSandbox.sample_init, "task", config, {})
    made = environments["default"].as_type(TaskgateSandbox)
    yield made
    anyio.run(TaskgateSandbox.sample_cleanup, "task", config, environments, False)
    assert not engine_url[1].containers.list(all=True, filters={"id": made.container.id})


def test_all_of_it_is_known() -> None:
    """A later inspect_ai may have more."""
    assert len(CASES) >= 44 and set(CASES) >= MEANINGLESS_AS_ROOT | NEED_PS


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_self_check(sandbox: TaskgateSandbox, image: tuple[str, bool], case: str, long: bool) -> None:
    if not image[1] and case not in NEED_PS and not long:
        pytest.skip("the same as in the image with `ps`; run with --long")
    user = sandbox.container.attrs["Config"]["User"]
    if user == "root" and case in MEANINGLESS_AS_ROOT:
        pytest.skip("root may write what is read-only")
    if case in NEED_PS and not image[1]:
        anyio.run(_without_ps, sandbox)
        return
    check = getattr(self_check, case)
    assert inspect.iscoroutinefunction(check)
    anyio.run(check, sandbox)


async def _without_ps(sandbox: SandboxEnvironment) -> None:
    """What the two cases are about, seen without `ps`."""
    with pytest.raises(TimeoutError):
        await sandbox.exec(["sh", "-c", "sleep 8801 & (setsid sleep 8802 &); sleep 8803; :"], timeout=1)
    listing = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null"
    seen = await sandbox.exec(["sh", "-c", listing], user="root")
    assert "880" not in seen.stdout and "/bin/sh" in seen.stdout


def test_inspect_finds_the_provider() -> None:
    assert registry_find_sandboxenv("taskgate") is TaskgateSandbox
    spec = SandboxEnvironmentSpec("taskgate", SandboxConfig(image="x"))
    again = SandboxEnvironmentSpec.model_validate({"type": "taskgate", "config": spec.config.model_dump()})
    assert again.config == SandboxConfig(image="x")


@pytest.mark.slow
def test_a_cancelled_command_is_killed(sandbox: TaskgateSandbox) -> None:
    async def cancelled() -> str:
        with anyio.move_on_after(1):
            await sandbox.exec(["sh", "-c", "sleep 8901; :"])
        await anyio.sleep(3)
        listing = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null"
        return (await sandbox.exec(["sh", "-c", listing], user="root")).stdout

    assert "8901" not in anyio.run(cancelled)
