"""Fixtures for the project's own tests. They want a real engine and fail loudly where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CLONE = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long forms: more rounds, larger inputs")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored, and every process inherits that: tests that send it need the
    # default.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("long"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Is this the long form? The short one is for every day."""
    return bool(pytestconfig.getoption("long"))


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A docker client of the tests' own."""
    from examples import images

    made = images.connect()
    yield made
    made.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    from taskgate.harness.engine.client import Engine

    made = Engine()
    yield made
    made.close()


@pytest.fixture(scope="session")
def sound(client: Any) -> str:
    """The corpus's base: an image in which everything is as it should be."""
    from examples import images
    from tests import corpus

    return images.build(client, "taskgate-test/sound:1", f"FROM {images.base(client)}\n{corpus.BASE}")


@pytest.fixture(scope="module", params=["docker", "podman"])
def library(request: pytest.FixtureRequest, client: Any, sound: str) -> Iterator[Any]:
    """A client of each engine in turn, with the corpus's base on it."""
    if request.param == "docker":
        yield client
        return
    import docker

    from tests import engines
    from tests.library import bring

    with engines.podman() as daemon:
        made = docker.DockerClient(base_url=daemon.url, version="auto", timeout=120)
        bring(client, made, sound)
        yield made
        made.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A real registry's, on the loopback interface."""
    from tests import registry

    with registry.registry() as port:
        yield port


@pytest.fixture
def proxy(port: int) -> Iterator[Any]:
    """A `registry.Proxy` in front of it, that can be told to fail."""
    from tests import registry

    made = registry.Proxy(port)
    yield made
    made.close()


@dataclass
class Run:
    """What a pytest run in a process of its own gave."""

    status: int
    output: str
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "results/preflight"

    @property
    def verdicts(self) -> dict[str, Any]:
        import json

        document: dict[str, Any] = json.loads((self.out / "verdicts.json").read_text())
        return document

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in self.verdicts["tasks"]}

    @property
    def skip_list(self) -> str:
        path = self.folder / "config/known_broken_images.txt"
        return path.read_text() if path.exists() else ""

    @property
    def listed(self) -> set[str]:
        return {line for line in self.skip_list.splitlines() if line and not line.startswith("#")}


Gate = Callable[..., Run]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Run pytest as a user would, in an empty folder: `gate(manifest_text, "-n", "2", env={…})`."""

    def run(manifest: str | None, *args: str, env: dict[str, str] | None = None, cwd: Path = tmp_path) -> Run:
        given = []
        if manifest is not None:
            (tmp_path / "m.yaml").write_text(manifest)
            given = [f"--images={tmp_path / 'm.yaml'}"]
        # Hypothesis' plugin takes longer to start than all the rest, in every worker.
        command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", *given, *args]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GITHUB_", "COV_CORE"))}
        done = subprocess.run(
            command, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
        )
        return Run(done.returncode, done.stdout + done.stderr, tmp_path)

    return run
