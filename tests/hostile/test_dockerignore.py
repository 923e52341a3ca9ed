"""A task set's .dockerignore: what it may be, and patterns that would take years; one bad task costs no other."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker.utils.fnmatch import fnmatch
from hypothesis import given
from hypothesis import strategies as st

from taskgate.harness.base.errors import ManifestError
from taskgate.harness.tasks import dockerignore, manifest
from tests.running import TASKGATE, harmless

SEGMENT = st.lists(st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]", "[^b]"]), min_size=1, max_size=6).map(
    lambda parts: re.sub(r"\*+", "*", "".join(parts))
)
PATTERN = st.lists(SEGMENT | st.just("**"), min_size=1, max_size=6).map("/".join)
NAME = st.lists(st.text("ab.^", min_size=1, max_size=6), min_size=1, max_size=6).map("/".join)


@given(PATTERN, NAME)
def test_it_means_what_docker_means(pattern: str, name: str) -> None:
    # A class of the SDK's may match the slash, which docker's does not.
    mine = re.compile(dockerignore.expression(pattern), re.S).fullmatch(name) is not None
    assert mine == fnmatch(name, re.sub(r"\[!", "[!/", pattern))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("*a" * 40 + "b", "a" * 250), ("**/a/" * 40 + "b", "a/" * 1900 + "c"), ("**" * 300 + "b", "a/" * 1900)],
    ids=["stars", "folders", "nothing-between"],
)
def test_a_pattern_that_finds_nothing(pattern: str, name: str) -> None:
    """In a process of its own: a pattern can't be interrupted."""
    program = (
        f"from taskgate.harness.tasks.dockerignore import _Pattern\nassert not _Pattern({pattern!r}).match({name!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_what_is_sent(tmp_path: Path) -> None:
    for name in ("Dockerfile", "a.py", "b.pyc", "c/d.pyc", "c/e/f", "g/h", "g/kept", "ü"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert dockerignore.files(tmp_path, "Dockerfile") == sorted(
        ["Dockerfile", "a.py", "b.pyc", "c", "c/d.pyc", "c/e", "c/e/f", "g", "g/h", "g/kept", "ü"]
    )
    (tmp_path / ".dockerignore").write_bytes(b"\xef\xbb\xbf# all\n*\n!c\n\n**/*.pyc\n/c/e/\n!g/kept\n\xff\n")
    sent = dockerignore.files(tmp_path, "Dockerfile")
    assert sent == sorted([".dockerignore", "Dockerfile", "c", "g/kept"])


@pytest.mark.parametrize(
    "text", ["x\n" * 2000, "x" * 2000, "x" * (1 << 20), "[z-a]"], ids=["many", "long", "large", "range"]
)
def test_what_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ".dockerignore").write_text(text)
    with pytest.raises(ManifestError, match=r"\.dockerignore"):
        dockerignore.files(tmp_path, "Dockerfile")


PLANTS: dict[str, Callable[[Path], Any]] = {
    "pipe": lambda path: os.mkfifo(path),
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "range": lambda path: path.write_text("[z-a]\n"),
}


def test_one_bad_task_costs_no_other(tmp_path: Path, client: Any) -> None:
    for name in (*PLANTS, "sound"):
        task = tmp_path / "set" / name
        task.mkdir(parents=True)
        (task / "task.yaml").write_text("instruction: x\n")
        (task / "Dockerfile").write_text(f"FROM scratch\nCOPY task.yaml /{secrets.token_hex(8)}\n")
        if plant := PLANTS.get(name):
            plant(task / ".dockerignore")
    command = [*TASKGATE, "build", "set", "-o", "m.yaml", "--out=logs", "-j2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 1 and harmless(told) and "Traceback" not in told, told
    assert "1 built" in told and f"{len(PLANTS)} failed" in told
    (made,) = manifest.load(tmp_path / "m.yaml")
    assert made.id == "sound"
    client.images.remove(made.image)
