"""What a task is given to read: links that stay inside arrive as files, links that lead out are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskgate.harness.base.errors import UsageError
from taskgate.harness.runner.inputs import Inputs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "one/below").mkdir(parents=True)
    (root / "shared").mkdir()
    (root / "shared/common.txt").write_text("common")
    (root / "one/below/file.txt").write_text("mine")
    return root


def _names(root: Path) -> dict[str, str | None]:
    inputs = Inputs(root)
    folder = inputs.of("one")
    assert folder
    return {name: None if path.is_dir() else path.read_text() for name, path in inputs.walk(folder)}


def test_links_inside_are_resolved(root: Path) -> None:
    (root / "one/link.txt").symlink_to("../shared/common.txt")
    (root / "one/absolute").symlink_to(root / "shared")
    assert _names(root) == {
        "absolute": None, "absolute/common.txt": "common", "below": None, "below/file.txt": "mine",
        "link.txt": "common",
    }  # fmt: skip
    before = Inputs(root).digest(root / "one")
    (root / "shared/common.txt").write_text("changed")
    assert Inputs(root).digest(root / "one") != before, "what a link leads to reaches the agent"


def test_a_task_whose_folder_is_a_link(root: Path) -> None:
    (root / "two").symlink_to("one")
    assert Inputs(root).of("two") == (root / "one").resolve()
    (root / "three").symlink_to("/etc")
    with pytest.raises(UsageError, match="leads out of"):
        Inputs(root).of("three")
    assert Inputs(root).of("four") is None


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/etc/passwd", "leads out of"),
        ("../../..", "leads out of"),
        ("nowhere", "to nothing"),
        ("..", "a folder that it is in"),
        ("link", "circle|can't be read|Too many levels"),
    ],
)
def test_links_that_are_refused(root: Path, target: str, problem: str) -> None:
    (root / "one/below/link").symlink_to(target)
    with pytest.raises(UsageError, match=problem):
        _names(root)


def test_what_is_no_file(root: Path) -> None:
    os.mkfifo(root / "one/pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        _names(root)
