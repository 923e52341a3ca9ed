"""The examples of the page on the container library, run as they are written, on a real engine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from taskgate.harness.docker_utils import setup_logger
from tests.conftest import CLONE
from tests.library import running

BLOCKS = re.findall(r"^```python\n(.*?)^```", (CLONE / "docs/container-library.md").read_text(), re.M | re.S)
PYTEST = '#!/bin/sh\nmkdir -p out && echo fine >out/report && ln -s /data/note out/note && echo "1 passed"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Any) -> Iterator[Path]:
    """A user's folder: a Dockerfile with a user `dev`, `pytest` and `make`, and what the page copies."""
    dockerfile = f"FROM {images.base(client)}\nRUN useradd dev\nCOPY --chmod=755 pytest /usr/local/bin/pytest\n"
    dockerfile = dockerfile.replace("COPY --chmod=755", "COPY") + "RUN chmod 755 /usr/local/bin/pytest\n"
    (tmp_path / "Dockerfile").write_text(dockerfile)
    (tmp_path / "pytest").write_text(PYTEST)
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures/data").write_text("data")
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    # This thread's log is not the next test's.
    setup_logger(os.devnull)


def test_the_examples(folder: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = BLOCKS[:2]
    first = first.replace('"app", "app-1"', '"taskgate-test/library-page", "taskgate-test-library-page"')
    names: dict[str, Any] = {}
    try:
        exec(compile(first, "docs/container-library.md", "exec"), names)
    finally:
        with pytest.raises(docker.errors.NotFound):
            client.containers.get("taskgate-test-library-page")
    assert names["done"].exit_code == 0 and names["done"].output == b"1 passed\n" and names["done"].ended
    assert (folder / "results/1/report").read_text() == "fine\n"
    assert (folder / "results/1/note").read_text() == "hello\n" and not (folder / "results/1/note").is_symlink()
    assert "1 passed" in (folder / "logs/task-1.log").read_text()
    with running(client, "taskgate-test/library-page:latest") as container:
        names["container"] = container
        container.exec_run(
            ["sh", "-c", "printf '#!/bin/sh\necho $1' >/usr/local/bin/make; chmod 755 /usr/local/bin/make"]
        )
        exec(compile(second, "docs/container-library.md", "exec"), names)
        assert names["done"].check().output == b"test\n"


def test_the_inspect_example() -> None:
    pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[2], "docs/container-library.md", "exec"), names)
    assert names["SandboxConfig"](image="app:latest").image == "app:latest"


def test_no_example_is_left_out() -> None:
    assert len(BLOCKS) == 3
