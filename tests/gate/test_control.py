"""Who is to blame where what taskgate brought fails: the runtime and the agent, the image's nature, or the image."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import nature
from taskgate.harness.gate.control import Control
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Evidence, Record, Verdict
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Agent, Task

PREFIX = "/.taskgate/0123"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate(Engine, registry.load(), session=ownership.new_session())
    yield gate
    gate.close()


@pytest.fixture
def judge(gate: Gate, client: Any, sound: str, tmp_path: Path) -> Callable[..., Record]:
    """Judge an image with a folder that is brought, in which `bin/agent` is this script or program."""

    def judge(brought: str | bytes, image: str = sound, *, path: str | None = None, **fields: Any) -> Record:
        data = brought if isinstance(brought, bytes) else f"#!/bin/sh\n{brought}\n".encode()
        folder = tmp_path / f"brought-{hashlib.sha256(data).hexdigest()[:8]}"
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin/agent").write_bytes(data)
        (folder / "bin/agent").chmod(0o755)
        runtime = Runtime(directory=str(folder), builder=images.base(client), path=path)
        given: dict[str, Any] = {"repo_path": "/testbed", "agent": Agent(command=("agent",)), **fields}
        return gate.judge(Task("one", image, pull="never", runtime=runtime, **given))

    return judge


def _needs(symbol: str, folder: Path) -> bytes:
    """A program that needs this version of a symbol of the C library, as one has that was linked on a newer system."""
    source = folder / "agent.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("1.0"); return 0; }\n')
    subprocess.run(["gcc", "-o", folder / "agent", source], check=True, timeout=60)
    data = (folder / "agent").read_bytes()
    assert b"GLIBC_2.34\0" in data
    old, new = (struct.pack("<I", _elf_hash(name)) for name in ("GLIBC_2.34", symbol))
    return data.replace(b"GLIBC_2.34\0", f"{symbol}\0".encode()).replace(old, new)


def _elf_hash(name: str) -> int:
    value = 0
    for letter in name.encode():
        value = (value << 4) + letter
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def test_a_newer_c_library_than_the_images(judge: Callable[..., Record], tmp_path: Path) -> None:
    record = judge(_needs("GLIBC_2.99", tmp_path))
    assert (record.verdict, record.check) == (Verdict.INCOMPATIBLE, "agent_start"), record
    assert "needs GLIBC_2.99" in str(record.reason) and record.hint
    # The control: the same program as it was linked.
    assert judge((tmp_path / "agent").read_bytes()).verdict is Verdict.HEALTHY


def test_an_agent_that_writes_beside_its_own_files(judge: Callable[..., Record]) -> None:
    record = judge('echo x >"${0%/*}/state" || exit 1')
    assert (record.verdict, record.check) == (Verdict.INCOMPATIBLE, "agent_start"), record
    assert "/bin/state" in str(record.reason) and "read-only" in str(record.reason)
    assert "mode: layer" in str(record.hint)


def test_an_agent_that_fails_everywhere(judge: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is judged by it, and the control is asked once."""
    tries: list[str] = []
    real = Control._try

    def counted(self: Control, check: str, task: Task, delivery: Delivery) -> str | None:
        tries.append(check)
        return real(self, check, task, delivery)

    monkeypatch.setattr(Control, "_try", counted)
    first, second = judge("echo the key has expired; exit 3"), judge("echo the key has expired; exit 3")
    for record in (first, second):
        assert record.verdict is Verdict.INFRA and "the key has expired" in str(record.reason), record
        assert "control container" in str(record.reason) and "no image is judged by it" in str(record.reason)
    assert first.reason == second.reason and len(tries) == 1


def test_an_image_that_lacks_what_the_agent_needs(judge: Callable[..., Record], client: Any, sound: str) -> None:
    """The agent works in the control: the image is at fault."""
    image = images.build(client, "taskgate-test/no-version:1", f"FROM {sound}\nRUN rm -f /etc/debian_version")
    record = judge("cat /etc/debian_version", image)
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record
    assert judge("cat /etc/debian_version").verdict is Verdict.HEALTHY


def test_a_command_that_nobody_brought(judge: Callable[..., Record]) -> None:
    """It is the image's own, and so is its failure."""
    record = judge("true", agent=Agent(command=("test", "-e", "/not/there")))
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record


def test_an_agent_that_wants_a_repository(judge: Callable[..., Record], client: Any, sound: str) -> None:
    """It finds one in the control, too."""
    image = images.build(client, "taskgate-test/no-repository:1", f"FROM {sound}\nRUN rm -rf /testbed/.git")
    levels = {"git_repo": "off", "git_commit": "off", "git_future": "off"}
    record = judge("git rev-parse HEAD", image, checks=levels)
    assert (record.verdict, record.check) == (Verdict.BROKEN, "agent_start"), record


def test_a_mount_that_hides_the_work_directory(judge: Callable[..., Record], client: Any, sound: str) -> None:
    image = images.build(client, "taskgate-test/work-in-opt:1", f"FROM {sound}\nRUN mkdir -p /opt/work")
    record = judge("true", image, path="/opt", workdir="/opt/work", agent=None)
    assert (record.verdict, record.check) == (Verdict.INCOMPATIBLE, "workdir"), record
    assert "/opt" in str(record.reason) and "hides" in str(record.reason)
    # The control: no image has it, and the mount hides nothing.
    record = judge("true", path="/opt", workdir="/opt/work", agent=None)
    assert record.verdict is Verdict.BROKEN, record


def test_a_mount_that_hides_what_the_agent_needs(judge: Callable[..., Record], client: Any, sound: str) -> None:
    lines = f"FROM {sound}\nRUN mkdir -p /opt/tools && cp /bin/true /opt/tools/tool"
    image = images.build(client, "taskgate-test/tool-in-opt:1", lines)
    record = judge("true", image, path="/opt", agent=Agent(command=("/opt/tools/tool",)))
    assert (record.verdict, record.check) == (Verdict.INCOMPATIBLE, "agent_start"), record


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (f"{PREFIX}/bin/a: /lib/libc.so.6: version `GLIBC_2.38' not found (required by {PREFIX}/bin/a)", "GLIBC_2.38"),
        (f"{PREFIX}/bin/a: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", "GLIBCXX_3.4.32"),
        (f"{PREFIX}/bin/a: symbol lookup error: undefined symbol: x, version GLIBC_2.36", "GLIBC_2.36"),
        (f"Error relocating {PREFIX}/bin/a: __memcpy_chk: symbol not found", "__memcpy_chk"),
        (f"{PREFIX}/bin/a: error while loading shared libraries: libz.so.1: cannot open", "libz.so.1"),
        (f"Error loading shared library ld-linux-x86-64.so.2: No such file (needed by {PREFIX}/bin/a)", "ld-linux"),
        (f"bash: {PREFIX}/bin/a: cannot execute: required file not found", "the loader"),
        (f"OSError: [Errno 30] Read-only file system: '{PREFIX}/lib/agent/cache.db'", f"{PREFIX}/lib/agent/cache.db"),
        (f"sh: 1: cannot create {PREFIX}/state: Read-only file system", f"{PREFIX}/state"),
        (f"Error: EROFS: read-only file system, mkdir '{PREFIX}/node/.cache'", f"{PREFIX}/node/.cache"),
        ("/usr/bin/a: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /usr/bin/a)", None),
        ("OSError: [Errno 30] Read-only file system: '/sys/x'", None),
        (f"{PREFIX}/bin/a: No module named 'numpy'", None),
        ("", None),
    ],
)
def test_the_nature_of_an_image(output: str, reason: str | None) -> None:
    record = Record("one", "i:1", None, None, Verdict.BROKEN, check="agent_start", reason="it fails")
    record.evidence = Evidence("agent", 1, output)
    because = nature.of(record, PREFIX)
    assert because is None if reason is None else because and reason in because.reason and because.hint
