"""Which processes' containers are left over, on hosts with and without /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from taskgate.harness.engine import ownership
from taskgate.harness.engine.ownership import abandoned, is_alive, labels, started


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on macOS: no id of the boot, no PID namespace, and psutil reads process times from elsewhere."""
    monkeypatch.setattr(psutil, "LINUX", False)
    monkeypatch.setattr(ownership, "Path", lambda name: Path("/absent") / name.lstrip("/"))
    ownership._host.cache_clear()
    yield
    ownership._host.cache_clear()


def _of(process: subprocess.Popen[bytes], **more: str) -> dict[str, str]:
    pid = {"taskgate.pid": str(process.pid), "taskgate.started": str(started(process.pid))}
    return {**labels("s", 60), **pid, **{f"taskgate.{name}": value for name, value in more.items()}}


def test_a_process_keeps_its_time_and_no_other_has_it(child: subprocess.Popen[bytes]) -> None:
    assert started(child.pid) == started(child.pid) and is_alive(child.pid, str(started(child.pid)))
    assert is_alive(child.pid, "1") is False and started(os.getpid()) != started(1)


def test_the_kernels_own_ticks() -> None:
    """The same labels as versions of taskgate that read /proc themselves."""
    stat = Path("/proc/self/stat").read_text()
    assert started(os.getpid()) == stat.rpartition(")")[2].split()[19]


def test_a_clock_that_is_set_changes_nothing(child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from psutil import _pslinux

    before, boot, created = started(child.pid), psutil.boot_time(), psutil.Process(child.pid).create_time()
    monkeypatch.setattr(_pslinux, "boot_time", lambda: boot + 3600.0)
    assert psutil.Process(child.pid).create_time() - created > 3000
    assert started(child.pid) == before


def test_a_live_process_owns_its_containers(child: subprocess.Popen[bytes]) -> None:
    assert not abandoned(_of(child)) and not abandoned(_of(child, expires="1")), "it may run for as long as it likes"


def test_a_dead_one_does_not(child: subprocess.Popen[bytes]) -> None:
    owner = _of(child)
    child.kill()
    # A zombie, until it is waited for.
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert abandoned(owner)
    child.wait()
    assert abandoned(owner)


def test_an_id_that_was_given_again(child: subprocess.Popen[bytes]) -> None:
    assert abandoned(_of(child, started="1"))


def test_without_proc(no_proc: None, child: subprocess.Popen[bytes]) -> None:
    owner = _of(child)
    assert owner["taskgate.host"].strip() and not abandoned(owner)
    assert abandoned({**owner, "taskgate.started": "1"})
    child.kill()
    child.wait()
    assert abandoned(owner)


def test_another_host_is_left_to_its_expiry(no_proc: None, child: subprocess.Popen[bytes]) -> None:
    """Two Macs of one name and one remote engine: the process is none of ours, and that says nothing."""
    child.kill()
    child.wait()
    owner = _of(child, host="macbook 0242ac110002 ", started="1")
    assert not abandoned(owner) and not abandoned(owner | {"taskgate.expires": str(int(time.time()) - 3000)})
    assert abandoned(owner | {"taskgate.expires": str(int(time.time()) - 4000)})


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), PermissionError()])
def test_one_that_may_not_be_looked_at(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    owner = _of(child)

    def refuse(pid: int) -> None:
        raise error

    monkeypatch.setattr(psutil, "Process", refuse)
    assert is_alive(child.pid, owner["taskgate.started"]) is None
    assert not abandoned(owner)
    assert abandoned(owner | {"taskgate.expires": "1"})


def test_one_that_is_hidden(child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc with hidepid shows nothing of other users' processes; a signal to one is refused."""
    owner = _of(child)

    def absent(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    def refused(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "Process", absent)
    assert abandoned(owner)
    monkeypatch.setattr(os, "kill", refused)
    assert not abandoned(owner)
