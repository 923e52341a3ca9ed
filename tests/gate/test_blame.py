"""What a host that is busy, full or short of memory does to an image is not held against the image."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.checks import _writing
from taskgate.harness.base.errors import InfraError, NoSpace
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import gate as gating
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.harness.runtime import volume
from taskgate.harness.sandbox import container
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.sandbox.shell import Result, Shell, ShellStuck
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Agent, Limits, Task

GIT = """#!/bin/sh
case "$*" in *--reflog*) sleep 60;; esac
exec /usr/bin/git "$@"
"""


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Record]]:
    """Judge a task made of these fields; what may pass by itself is tried twice."""
    monkeypatch.setattr(gating, "TRIES", 2)
    made = Gate(Engine, registry.load(), session=ownership.new_session())

    def judge(image: str, **fields: Any) -> Record:
        given = {"repo_path": None, "pull": "never", "python": None, **fields}
        return made.judge(Task("one", image, **given))

    yield judge
    made.close()


def _small(client: Any, name: str, files: dict[str, bytes], architecture: str | None = None) -> str:
    content = {"bin/sh": Path("/bin/busybox").read_bytes(), "tmp/.keep": b"", "root/.keep": b"", **files}
    modes = {path: 0o755 for path in content if path.startswith("bin/")}
    images.load(client, name, content, architecture or client.version()["Arch"], modes)
    return name


def test_a_process_that_somebody_killed(judge: Callable[..., Record], sound: str, client: Any) -> None:
    """Once: that may have been anybody."""
    killed = list[int]()

    def kill() -> None:
        for _ in range(600):
            for found in client.api.containers(filters={"ancestor": sound}):
                with contextlib.suppress(docker.errors.APIError, ProcessLookupError):
                    for row in client.api.top(found["Id"], ps_args="-eo pid,args")["Processes"]:
                        if row[1] == "sleep 4711" and not killed:
                            os.kill(int(row[0]), signal.SIGKILL)
                            killed.append(int(row[0]))
            if killed:
                return
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    record = judge(sound, agent=Agent(command=("sh", "-c", "sleep 4711 & wait $!")), timeout=5.0)
    killer.join()
    # The second time nobody did, and it slept on.
    assert killed and (record.check, record.reason) == ("agent_start", "timed out after 5 s"), record


@pytest.mark.parametrize(
    "agent",
    [Agent(command=("sh", "-c", "kill -9 $$")), Agent(server=("sh", "-c", "kill -9 $$"))],
    ids=["command", "server"],
)
def test_a_process_that_kills_itself(judge: Callable[..., Record], sound: str, agent: Agent) -> None:
    """Each time, and there is memory left."""
    record = judge(sound, python=">=3", agent=agent)
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record


def test_the_limit_of_its_own_memory(judge: Callable[..., Record], sound: str) -> None:
    """An agent that does not fit into what the manifest allows is broken."""
    hoard = ("python3", "-c", "x = bytearray(1 << 29)")
    record = judge(sound, agent=Agent(command=hoard), limits=Limits(memory=64 << 20))
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record


def test_a_shell_that_is_slow_once(judge: Callable[..., Record], sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = [0.0]
    ready = Shell.ready

    def hasty(self: Shell, seconds: float) -> None:
        ready(self, patience.pop() if patience else seconds)

    monkeypatch.setattr(Shell, "ready", hasty)
    assert judge(sound).verdict is Verdict.HEALTHY
    assert not patience


def test_a_shell_that_is_always_slow(judge: Callable[..., Record], sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def never(self: Shell, seconds: float) -> None:
        tries.append(seconds)
        raise ShellStuck("")

    monkeypatch.setattr(Shell, "ready", never)
    record = judge(sound, timeout=33.0)
    assert (record.verdict, record.check) == (Verdict.BROKEN, "shell"), record
    assert tries == [33.0, 33.0]


def test_what_only_warns_may_time_out(judge: Callable[..., Record], client: Any, sound: str) -> None:
    """A history that takes too long to be searched costs no more than one in which something was found."""
    lines = f"FROM {sound}\nCOPY git /usr/local/bin/git\nRUN chmod 755 /usr/local/bin/git"
    image = images.build(client, "taskgate-test/slow-history:1", lines, {"git": GIT.encode()})
    record = judge(image, repo_path="/testbed", timeout=3.0)
    assert record.verdict is Verdict.HEALTHY, record
    (found,) = [one for one in record.findings if one.check == "git_future"]
    assert found.outcome is Outcome.WARN and "timed out" in str(found.reason)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_full_disk_says_so_in_every_shell(tmp_path: Path, shell: str) -> None:
    """A disk on which a file can be made and not filled is full; one on which none can be made may be forbidden."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "filling").write_bytes(bytes(1 << 20))
        command = [*shell.split(), "-c", _writing.WRITE, "sh", str(tmp_path), "x"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LANG": "de_DE"})
        assert done.returncode == _writing.FULL, done
        assert [one.name for one in tmp_path.iterdir()] == ["filling"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_no_verdict() -> None:
    class Full:
        def sh(self, script: str, *args: str) -> Result:
            return Result(script, _writing.FULL, "sh: 4: echo: echo: I/O error", 0.0)

    with pytest.raises(NoSpace, match="/w"):
        _writing.try_write(Full(), "/w")  # type: ignore[arg-type]


def test_a_file_that_looks_like_ours(judge: Callable[..., Record], client: Any) -> None:
    """An image that was made of a container in which a check was cut short."""
    image = _small(client, "taskgate-test/left-over:1", {"root/.taskgate-1-probe": b"", "tmp/.taskgate-1-probe": b""})
    assert judge(image, workdir="/tmp", checks={"git_available": "off"}).verdict is Verdict.HEALTHY


def test_a_runtime_that_somebody_removed(judge: Callable[..., Record], client: Any, engine: Engine) -> None:
    """Its volume is free between two images; the engine makes an empty one in its place without a word."""
    image, base = _small(client, "taskgate-test/bare:1", {}), images.base(client)
    fields: dict[str, Any] = {"runtime": Runtime(builder=base), "workdir": "/tmp", "python": ">=3"}
    record = judge(image, **fields)
    assert record.verdict is Verdict.HEALTHY, record
    before = volume.volumes(engine)
    assert before and all(engine.remove_volume(name) for name in before)
    record = judge(image, **fields)
    assert record.verdict is Verdict.HEALTHY, record
    assert volume.volumes(engine)


def test_an_agent_finds_the_runtime_on_its_path(judge: Callable[..., Record], client: Any) -> None:
    """As it will in a run."""
    image, base = _small(client, "taskgate-test/bare:1", {}), images.base(client)
    agent = Agent(command=("/bin/sh", "-c", 'python3 -c "" && git --version && [ "$GIT_CONFIG_COUNT" = 1 ]'))
    record = judge(image, runtime=Runtime(builder=base), workdir="/tmp", python=">=3", agent=agent)
    assert record.verdict is Verdict.HEALTHY, record


@pytest.mark.parametrize("files, verdict", [({}, Verdict.INCOMPATIBLE), ({"bin/sh": None}, Verdict.BROKEN)])
def test_another_architecture(
    judge: Callable[..., Record], client: Any, files: dict[str, None], verdict: Verdict
) -> None:
    """A shell that dies under emulation may do so for the emulator's sake; one that is missing is missing."""
    other = "arm64" if client.version()["Arch"] == "amd64" else "amd64"
    content = {"tmp/.keep": b""} if files else {"bin/sh": Path("/bin/false").read_bytes()}
    name = f"taskgate-test/other-{verdict}:1"
    images.load(client, name, content, other, {"bin/sh": 0o755})
    record = judge(name, platform=f"linux/{other}", workdir="/tmp")
    assert record.verdict is verdict, record


def test_a_check_is_new_where_what_it_uses_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "versioned_checks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("def help(sandbox): return 1\n")
    (package / "mine.py").write_text("from versioned_checks.helper import help\ndef mine(sandbox): return ()\n")
    monkeypatch.syspath_prepend(tmp_path)
    from versioned_checks.mine import mine  # type: ignore[import-not-found]

    before = registry.Check("mine", mine, ()).version
    assert registry.Check("mine", mine, ()).version == before
    (package / "helper.py").write_text("def help(sandbox): return 2\n")
    assert registry.Check("mine", mine, ()).version != before


def test_pauses_are_not_made_of_traps(engine: Engine, client: Any) -> None:
    """An engine hangs on an image whose /etc/passwd is a pipe, whoever starts it."""
    lines = f"FROM {images.base(client)}\nRUN rm /etc/passwd && mkfifo /etc/passwd"
    image = images.build(client, "taskgate-test/piped:1", lines)
    from taskgate.harness.sandbox.pause import Pauses

    made, task = Pauses(engine, ownership.new_session()), Task("one", image, pull="never")
    try:
        assert made.network(task, engine.image(task.request)) == task.network
        # The next image may serve.
        sound = Task("two", images.base(client), pull="never")
        assert made.network(sound, engine.image(sound.request)).startswith("container:")
    finally:
        made.close()


def test_memory_is_known(engine: Engine, sound: str) -> None:
    """The control: a container in which the kernel has ended nothing says so."""
    task = Task("one", sound, pull="never")
    made = container.Container(engine, engine.image(task.request), task, ownership.new_session(), seconds=60)
    try:
        made.start()
        assert made.run(container.MEMORY, seconds=10).code == 3
        assert made.host_ran_out() is None
    finally:
        made.remove()


NONE, OWN, HOST, UNKNOWN = 3, 0, 1, 2
V2 = "low 0\nhigh 0\nmax {max}\noom {oom}\noom_kill {kills}\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"memory.events": V2.format(max=0, oom=0, kills=0)}, NONE),
        ({"memory.events": V2.format(max=9, oom=0, kills=0)}, NONE),
        ({"memory.events": V2.format(max=9, oom=2, kills=1)}, OWN),
        ({"memory.events": V2.format(max=9, oom=0, kills=1)}, HOST),
        ({"memory/memory.oom_control": V1.format(kills=0), "memory/memory.failcnt": "7\n"}, NONE),
        ({"memory/memory.oom_control": V1.format(kills=2), "memory/memory.failcnt": "7\n"}, OWN),
        ({"memory/memory.oom_control": V1.format(kills=2), "memory/memory.failcnt": "0\n"}, HOST),
        ({"memory/memory.oom_control": "oom_kill_disable 0\n", "memory/memory.failcnt": "0\n"}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_who_ran_out_of_memory(tmp_path: Path, shell: str, files: dict[str, str], status: int) -> None:
    """What the kernel says in either version of cgroups."""
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    script = container.MEMORY.replace("/sys/fs/cgroup", str(tmp_path))
    assert subprocess.run([*shell.split(), "-c", script], check=False).returncode == status


@pytest.mark.parametrize(("ran_out", "confirm"), [(True, None), (False, False), (None, True)])
def test_a_kill_is_weighed(monkeypatch: pytest.MonkeyPatch, ran_out: bool | None, confirm: bool | None) -> None:
    sandbox: Any = Sandbox.__new__(Sandbox)
    sandbox._container, sandbox._delivery, sandbox.needs_confirmation = (
        SimpleNamespace(host_ran_out=lambda: ran_out),
        None,
        False,
    )
    result = Result("agent", 137, "Killed", 0.1)
    if confirm is None:
        with pytest.raises(InfraError, match="host is out of memory"):
            sandbox.rule_out_host("agent_start", result)
    else:
        sandbox.rule_out_host("agent_start", result)
        assert sandbox.needs_confirmation is confirm
