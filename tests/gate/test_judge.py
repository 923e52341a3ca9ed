"""From findings to a verdict: no image is healthy that does not even start, whatever a user leaves out or turns off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.checks._registry import Check
from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import gate as gating
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task

GARBAGE = b"neither a program nor a script\n"

Judge = Callable[..., Record]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    """Judge an image by some checks, or by all."""
    monkeypatch.setattr(gating, "TRIES", 2)
    opened: list[Gate] = []

    def judge(image: str, chosen: list[Check] | None = None, **fields: Any) -> Record:
        opened.append(Gate(Engine, chosen or registry.load(), session=ownership.new_session()))
        given = {"repo_path": None, "pull": "never", "python": None, "workdir": "/tmp", **fields}
        return opened[-1].judge(Task("one", image, **given))

    yield judge
    for gate in opened:
        gate.close()


def _image(client: Any, name: str, shell: bytes | None, architecture: str | None = None) -> str:
    """An image with nothing but this /bin/sh."""
    files = {"tmp/.keep": b"", "root/.keep": b"", **({"bin/sh": shell} if shell else {})}
    images.load(client, name, files, architecture or client.version()["Arch"], {"bin/sh": 0o755} if shell else {})
    return name


@pytest.fixture(scope="module")
def garbage(client: Any) -> str:
    return _image(client, "taskgate-test/garbage-shell:1", GARBAGE)


@pytest.fixture(scope="module")
def shellless(client: Any) -> str:
    return _image(client, "taskgate-test/shellless:1", None)


@pytest.fixture(scope="module")
def small(client: Any) -> str:
    return _image(client, "taskgate-test/small:1", Path("/bin/busybox").read_bytes())


@pytest.mark.parametrize("name", ["workdir", "git_repo", "user", "shell", "tmp"])
def test_a_choice_of_checks_that_leaves_the_start_out(judge: Judge, garbage: str, name: str) -> None:
    record = judge(garbage, registry.chosen(registry.load(), [name]), repo_path="/tmp")
    assert (record.verdict, record.check) == (Verdict.BROKEN, "container_start"), record
    assert "exec format error" in str(record.reason) and record.hint and record.evidence
    (found,) = [one for one in record.findings if one.check == "container_start"]
    assert found.outcome is Outcome.FAIL


@pytest.mark.parametrize("level", ["warn", "off"])
def test_a_start_that_does_not_count(judge: Judge, garbage: str, level: str) -> None:
    record = judge(garbage, checks={"container_start": level, "git_available": "off"})
    assert (record.verdict, record.check) == (Verdict.BROKEN, "container_start"), record
    assert [one.check for one in record.findings].count("container_start") == 1


@pytest.mark.parametrize("level", ["warn", "off"])
def test_a_user_that_does_not_count(judge: Judge, small: str, level: str) -> None:
    record = judge(small, user="nobody-here", checks={"user": level, "git_available": "off"})
    assert (record.verdict, record.check) == (Verdict.BROKEN, "user"), record


@pytest.mark.parametrize("level", ["warn", "off"])
def test_a_shell_that_does_not_count(judge: Judge, shellless: str, level: str) -> None:
    record = judge(shellless, checks={"shell": level, "git_available": "off"})
    assert (record.verdict, record.check, record.reason) == (Verdict.BROKEN, "shell", "there is no /bin/sh"), record


def test_the_control(judge: Judge, small: str) -> None:
    record = judge(small, checks={"git_available": "off", "container_start": "off", "user": "off", "shell": "off"})
    assert record.verdict is Verdict.HEALTHY, record


def test_checks_that_start_nothing_on_purpose(judge: Judge, garbage: str) -> None:
    record = judge(garbage, registry.chosen(registry.load(), ["image_exists", "platform"]))
    assert record.verdict is Verdict.HEALTHY, record


def test_another_architecture_without_the_check_of_it(judge: Judge, client: Any) -> None:
    """Of an image that this host can't run, nothing is known."""
    other = "s390x"
    name = _image(client, "taskgate-test/other-garbage:1", GARBAGE, other)
    record = judge(name, platform=f"linux/{other}", checks={"platform": "off"})
    assert record.verdict is Verdict.INCOMPATIBLE, record


def test_an_image_that_needs_emulation_and_does_not_start(judge: Judge, client: Any) -> None:
    """Nothing runs under emulation that did not start for another reason."""
    name = _image(client, "taskgate-test/other-shellless:1", None, "s390x")
    record = judge(name, platform="linux/s390x")
    (found,) = [one for one in record.findings if one.check == "platform"]
    assert record.check == "shell" and "runs under emulation" not in str(found.reason), record


def _own(sandbox: Sandbox) -> Iterator[str]:
    """The image has a shell.

    Install one.
    """
    if sandbox.sh("true").code:
        yield "there is none"


@pytest.mark.parametrize("level", ["warn", "off"])
def test_a_missing_image_that_does_not_count(judge: Judge, port: int, level: str) -> None:
    record = judge(f"127.0.0.1:{port}/not/there:1", pull="missing", checks={"image_exists": level})
    assert (record.verdict, record.check) == (Verdict.BROKEN, "image_exists"), record
    assert record.digest is None and record.reason


def test_a_missing_image_and_a_check_of_a_users_own(judge: Judge, port: int) -> None:
    """It has no `after`, and image_exists was not asked for."""
    record = judge(f"127.0.0.1:{port}/not/there:1", [Check("own", _own, ())], pull="missing")
    assert (record.verdict, record.check) == (Verdict.BROKEN, "image_exists"), record


def test_a_check_of_a_users_own_alone(judge: Judge, small: str) -> None:
    record = judge(small, [Check("own", _own, ())])
    assert record.verdict is Verdict.HEALTHY and record.digest, record


def test_a_shell_of_the_runtime_that_does_not_start(engine: Engine, shellless: str) -> None:
    """The next check must not talk to a container that is dead."""

    class NoShell:
        shell = ("/not-there/busybox", "sh")

    sandbox: Any = Sandbox(engine, Task("one", shellless, pull="never"), "tests")
    sandbox.runtime = NoShell()
    try:
        failures = []
        for _ in range(2):
            with pytest.raises(Exception, match=r"shell|start|no such file") as failed:
                sandbox.sh("true")
            failures.append(failed.value)
        assert not isinstance(failures[1], AssertionError) and type(failures[0]) is type(failures[1])
        assert not sandbox.started
    finally:
        sandbox.close()


def test_a_connection_that_breaks_before_the_start(judge: Judge, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again."""
    broken = [True]
    send = AttachStream.send

    def send_or_break(self: AttachStream, data: bytes, seconds: float) -> None:
        if broken:
            broken.pop()
            raise BrokenPipeError("nobody reads")
        send(self, data, seconds)

    monkeypatch.setattr(AttachStream, "send", send_or_break)
    record = judge(small, checks={"git_available": "off"})
    assert record.verdict is Verdict.HEALTHY and not broken, record


def test_a_connection_that_always_breaks(engine: Engine, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: AttachStream, data: bytes, seconds: float) -> None:
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(AttachStream, "send", send)
    sandbox = Sandbox(engine, Task("one", small, pull="never"), "tests")
    with pytest.raises(InfraError, match="before it was started") as failed:
        sandbox.start()
    assert failed.value.transient and sandbox.container_id is None
