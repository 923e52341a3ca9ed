"""An engine of this suite's own, so that whatever is left there was left by a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import engines
from tests.faults import scene
from tests.faults.scene import Scene


@pytest.fixture(scope="package")
def daemon() -> Iterator[engines.Daemon]:
    with engines.dockerd() as made:
        yield made


@pytest.fixture(scope="package")
def rows(daemon: engines.Daemon) -> list[str]:
    """Sound and broken tasks, whose images are on that engine."""
    return scene.small(daemon.url)


@pytest.fixture
def make(daemon: engines.Daemon, rows: list[str], tmp_path: Path) -> Callable[..., Scene]:
    """A scene on that engine; a test may want other rows, another URL, another skip list."""

    def make(*, url: str | None = None, rows: list[str] = rows, **more: str) -> Scene:
        return Scene(tmp_path, url or daemon.url, rows, **more)

    return make
