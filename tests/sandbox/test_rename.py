"""Files that appear in a container in one piece, and what is left if they don't. On Docker and Podman."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import TransferError
from taskgate.harness.sandbox import _pack, container_files
from taskgate.harness.sandbox._rename import PendingRename, can_rename
from taskgate.harness.sandbox.execute import execute
from taskgate.harness.sandbox.transfer import copy_to_container
from tests.library import bring, running


@pytest.fixture(scope="module")
def container(library: Any, sound: str) -> Iterator[Any]:
    with running(library, sound) as started:
        yield started


def test_a_rename_waits(container: Any) -> None:
    execute(container, "mkdir /tmp/r && cd /tmp/r && echo new >new && echo old >old").check()
    rename = PendingRename(container, "/tmp/r/new", "/tmp/r/old")
    assert execute(container, "cat /tmp/r/old").output == b"old\n"
    rename.finish()
    assert execute(container, "cat /tmp/r/old; ls /tmp/r; rm -r /tmp/r").output == b"new\nold\n"


def test_what_is_discarded_is_removed(container: Any) -> None:
    execute(container, "mkdir -p /tmp/d/new/sub").check()
    PendingRename(container, "/tmp/d/new", "/tmp/d/old").discard()
    assert execute(container, "ls -A /tmp/d; rm -r /tmp/d").output == b""


def test_a_rename_that_fails(container: Any) -> None:
    execute(container, "mkdir -p /tmp/f && echo new >/tmp/f/new").check()
    with pytest.raises(TransferError, match=r"/tmp/absent/old could not be put in its place: .*[Nn]o such file"):
        PendingRename(container, "/tmp/f/new", "/tmp/absent/old").finish()
    assert execute(container, "ls -A /tmp/f; rm -r /tmp/f").output == b""


def test_a_copy_that_breaks_off_leaves_nothing(container: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    execute(container, "mkdir /tmp/b && echo old >/tmp/b/file").check()
    entries = _pack.entries(tmp_path / "file", "refuse")
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(_pack, "entries", lambda source, special: entries)
    with pytest.raises(TransferError, match="became shorter"):
        copy_to_container(container, tmp_path / "file", "/tmp/b/file")
    assert execute(container, "ls -A /tmp/b; cat /tmp/b/file; rm -r /tmp/b").output == b"file\nold\n"


def test_a_paused_container(library: Any, sound: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with running(library, sound) as container:
        container.pause()
        assert not can_rename(container)
        container.unpause()
        assert can_rename(container)


def test_without_a_shell(library: Any, client: Any, tmp_path: Path) -> None:
    program = Path("/bin/busybox").read_bytes()
    names = ("bin/mv", "bin/rm", "bin/sleep")
    image = images.load(
        client, "taskgate-test/mv-without-sh:1", dict.fromkeys(names, program), "amd64", dict.fromkeys(names, 0o755)
    )
    bring(client, library, image)
    (tmp_path / "file").write_text("content")
    with running(library, image, entrypoint=["/bin/sleep", "9000"]) as container:
        copy_to_container(container, tmp_path / "file", "/file")
        assert container_files.read_text(container, "/file") == "content"
        rename = PendingRename(container, "/file", "/absent/file")
        with pytest.raises(TransferError, match="/absent/file"):
            rename.finish()
        assert not container_files.exists(container, "/file")
