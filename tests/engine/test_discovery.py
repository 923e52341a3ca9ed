"""Which engine is used: named outright, by DOCKER_HOST, by the docker context, at a usual socket."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, UsageError
from taskgate.harness.engine import discovery
from taskgate.harness.engine.client import Engine
from tests.conftest import Gate

REAL = "/var/run/docker.sock"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without a docker configuration, and an environment without one."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A socket on which somebody listens and never says a word."""
    path = tmp_path / "silent.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    kept: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    yield path
    listener.close()
    for one in kept:
        one.close()


def _context(home: Path, name: str, url: str, *, current: bool) -> None:
    """A docker context as the docker client writes it."""
    folder = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    about = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}}
    (folder / "meta.json").write_text(json.dumps(about))
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": name} if current else {}))


def test_what_is_named_outright_is_taken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///from/environment.sock")
    assert discovery.find_engine("unix:///named.sock").url == "unix:///named.sock"
    assert discovery.find_engine().url == "unix:///from/environment.sock"


def test_the_current_context(bare: Path) -> None:
    _context(bare, "mine", "unix:///from/context.sock", current=True)
    assert discovery.find_engine().url == "unix:///from/context.sock"


def test_a_context_by_environment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _context(bare, "mine", "unix:///from/context.sock", current=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    assert discovery.find_engine().url == "unix:///from/context.sock"


def test_a_context_that_does_not_exist_is_a_mistake(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "nosuch")
    with pytest.raises(UsageError, match="nosuch"):
        discovery.find_engine()


def test_the_first_socket_that_answers(bare: Path, silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent ones, dead ones and silent ones are passed over."""
    dead = bare / "dead.sock"
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(dead))
    gone.close()
    monkeypatch.setattr(discovery, "PING_SECONDS", 1)
    monkeypatch.setattr(discovery, "sockets", lambda: [bare / "absent.sock", dead, silent, Path(REAL)])
    assert discovery.find_engine().url == f"unix://{REAL}"


def test_podmans_sockets_are_usual_ones(bare: Path) -> None:
    found = [str(path) for path in discovery.sockets()]
    assert found.index(REAL) < found.index(f"{bare}/run/podman/podman.sock") < found.index("/run/podman/podman.sock")


def test_no_engine_says_what_to_do(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "sockets", lambda: [bare / "absent.sock"])
    with pytest.raises(EngineUnavailable, match="systemctl start docker") as caught:
        discovery.find_engine()
    assert len(str(caught.value).splitlines()) == 2


def test_an_engine_that_says_nothing_is_given_up(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskgate.harness.engine.connection.CALL_SECONDS", 1)
    with pytest.raises(EngineTimeout):
        Engine(f"unix://{silent}")


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "unix:///no/such.sock", "tcp://127.0.0.1:1"])
def test_a_host_that_is_none_is_told_without_a_traceback(gate: Gate, sound: str, url: str) -> None:
    head = "version: 1\ndefaults: {pull: never}\ntasks:\n"
    run = gate(f"{head}- {{id: one, image: '{sound}'}}\n", f"--docker-host={url}")
    assert run.status in (4, 10) and "Traceback" not in run.output, run.output
    if run.status == 10:
        assert run.tasks["one"]["verdict"] == "infra"


def test_workers_share_several_engines(gate: Gate, sound: str) -> None:
    """The same engine by two names will do: each worker uses the one of its number."""
    other = f"unix://{os.path.realpath(REAL)}"
    rows = "".join(f"- {{id: t{number}, image: '{sound}'}}\n" for number in range(4))
    head = "version: 1\ndefaults: {pull: never, repo_path: /testbed}\ntasks:\n"
    run = gate(head + rows, f"--docker-host=unix://{REAL}", f"--docker-host={other}", "-n", "2")
    assert run.status == 0, run.output


def test_a_context_that_cannot_be_read_is_a_mistake(bare: Path, gate: Gate) -> None:
    _context(bare, "mine", "unix:///from/context.sock", current=True)
    (meta,) = bare.glob(".docker/contexts/meta/*/meta.json")
    meta.write_text("no JSON")
    with pytest.raises(UsageError, match="docker context"):
        discovery.find_engine()
    run = gate("version: 1\ntasks: [a]\n", env={"HOME": str(bare)})
    assert run.status == 4 and "docker context" in run.output and "Traceback" not in run.output, run.output


def test_folders_of_others_hold_no_engine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's folder that may not even be looked into is passed over."""

    class Shut(type(Path())):  # type: ignore[misc]
        def exists(self, **_: Any) -> bool:
            raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(discovery, "sockets", lambda: [Shut("/somebody/docker.sock"), Path(REAL)])
    assert discovery.find_engine().url == f"unix://{REAL}"
