"""Copies into containers and out of them: what arrives, and what a hostile archive can't do. On Docker and Podman."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import socket
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import images
from taskgate.harness.base.errors import (
    InfraError,
    PathIsDirectory,
    PathNotDirectory,
    PathNotFound,
    PathNotPermitted,
    PathTooLarge,
    TransferError,
    UserNotFound,
)
from taskgate.harness.sandbox import archive, container_files
from taskgate.harness.sandbox.execute import execute
from taskgate.harness.sandbox.log import setup_logger
from taskgate.harness.sandbox.transfer import copy_from_container, copy_to_container
from tests.library import bring, named, running

ODD = ("a b", "new\nline", "'quote\"", "-rf", "--help", "é — 任务", "*", "$HOME", "`id`", "\\", "tab\t", ".hidden")


@pytest.fixture(scope="module")
def container(library: Any, sound: str) -> Iterator[Any]:
    with running(library, sound) as started:
        yield started


def _tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: kind, mode, content or target; files that are one get the same number."""
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        about, name = path.lstat(), str(path.relative_to(root))
        mode = stat.S_IMODE(about.st_mode)
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", mode)
        else:
            found[name] = ("file", mode, path.read_bytes(), inodes.setdefault(about.st_ino, name))
    return found


def _round_trip(container: Any, source: Path, folder: Path) -> Path:
    copy_to_container(container, source, "/tmp/there/deep/copy", verbose=False)
    copy_from_container(container, "/tmp/there/deep/copy", folder / "back", verbose=False)
    execute(container, ["rm", "-rf", "/tmp/there"])
    return folder / "back"


def test_a_tree_with_everything(container: Any, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ODD:
        (root / name).write_text(name)
    (root / "empty").mkdir(mode=0o700)
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/x").write_bytes(bytes(range(256)))
    (root / "deep/er/x").chmod(0o751)
    os.link(root / "deep/er/x", root / "hard")
    (root / "soft").symlink_to("deep/er/x")
    (root / "dangling").symlink_to("/no/such\nfile")
    (root / "nothing").touch(mode=0o600)
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("m" * 200)).write_text("a long path")
    assert _tree(_round_trip(container, root, tmp_path)) == _tree(root)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=2000), st.integers(0, 0o777)),
    st.tuples(st.just("link"), NAMES, st.none()),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def _plant(path: Path, tree: Any) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            _plant(path / name, inner)
    elif tree[0] == "file":
        path.write_bytes(tree[1])
        path.chmod(tree[2])
    else:
        path.symlink_to(tree[1])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_any_tree_survives_the_round_trip(container: Any, tree: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        _plant(Path(name) / "tree", tree)
        assert _tree(_round_trip(container, Path(name) / "tree", Path(name))) == _tree(Path(name) / "tree")


@pytest.mark.parametrize("name", ODD)
def test_a_file_by_an_odd_name(container: Any, library: Any, tmp_path: Path, name: str) -> None:
    if name == "*" and "Podman" in str(library.version()):
        pytest.skip("Podman 4.3 gives no file whose name holds a `*`")
    (tmp_path / name).write_text("content")
    copy_to_container(container, tmp_path / name, f"/tmp/odd folder/{name}")
    assert execute(container, ["cat", f"/tmp/odd folder/{name}"]).output == b"content"
    copy_from_container(container, f"/tmp/odd folder/{name}", tmp_path / "out" / name)
    assert (tmp_path / "out" / name).read_text() == "content"


def test_a_missing_source(container: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        copy_to_container(container, tmp_path / "absent", "/tmp/x")
    with pytest.raises(FileNotFoundError, match="absent"):
        copy_from_container(container, "/tmp/absent", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_is_there_is_replaced_or_merged(container: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/new").write_text("new")
    execute(container, "mkdir -p /tmp/m/sub && echo old >/tmp/m/old && echo old >/tmp/m/new")
    copy_to_container(container, tmp_path / "a", "/tmp/m")
    assert execute(container, "cat /tmp/m/old /tmp/m/new").output == b"old\nnew"
    (tmp_path / "host").mkdir()
    (tmp_path / "host/mine").write_text("mine")
    (tmp_path / "host/new").write_text("older")
    copy_from_container(container, "/tmp/m", tmp_path / "host")
    assert {path.name for path in (tmp_path / "host").iterdir()} == {"mine", "new", "old", "sub"}
    assert (tmp_path / "host/new").read_text() == "new" and (tmp_path / "host/mine").read_text() == "mine"


def test_a_folder_is_never_replaced_by_a_file(container: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    execute(container, "mkdir -p /tmp/kept && echo kept >/tmp/kept/x")
    with pytest.raises(TransferError, match="folder"):
        copy_to_container(container, tmp_path / "file", "/tmp/kept")
    assert execute(container, ["cat", "/tmp/kept/x"]).output == b"kept\n"
    (tmp_path / "dir").mkdir()
    with pytest.raises(TransferError, match="folder"):
        copy_from_container(container, "/etc/hostname", tmp_path / "dir")
    with pytest.raises(TransferError, match="no folder"):
        copy_from_container(container, "/tmp/kept", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_a_symlink_above_is_followed_inside_the_container_alone(container: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    execute(container, "ln -sfn /tmp /linked; ln -sfn /proc/1/root/etc /tmp/out")
    copy_to_container(container, tmp_path / "file", "/linked/through")
    assert execute(container, ["cat", "/tmp/through"]).output == b"x"
    assert not Path("/tmp/through").exists()


def test_a_container_without_anything_in_it(library: Any, client: Any, tmp_path: Path) -> None:
    """No shell, no mkdir, and it does not even run."""
    empty = images.load(client, "taskgate-test/empty-library:1", {"etc/x": b"1"}, client.version()["Arch"])
    bring(client, library, empty)
    started = library.containers.create(named(library, empty), entrypoint=["none"])
    try:
        (tmp_path / "tree/sub").mkdir(parents=True)
        (tmp_path / "tree/sub/x").write_text("x")
        copy_to_container(started, tmp_path / "tree", "/a/b/c")
        copy_to_container(started, tmp_path / "tree/sub/x", "/a/b/c/sub/y")
        copy_from_container(started, "/a", tmp_path / "back")
        assert {str(p.relative_to(tmp_path / "back")) for p in (tmp_path / "back").rglob("*")} == {
            "b", "b/c", "b/c/sub", "b/c/sub/x", "b/c/sub/y",
        }  # fmt: skip
    finally:
        started.remove(force=True)


@pytest.mark.slow
def test_a_large_sparse_file_in_constant_memory(library: Any, sound: str, tmp_path: Path) -> None:
    if "Podman" in str(library.version()):
        pytest.skip("5 GB through one engine is proof enough")
    with running(library, sound) as container:
        execute(container, "truncate -s 5G /big && printf end >>/big")
        execute(container, "printf start | dd of=/big conv=notrunc")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        copy_from_container(container, "/big", tmp_path / "big")
        about = (tmp_path / "big").stat()
        assert about.st_size == (5 << 30) + 3 and about.st_blocks * 512 < 10_000_000, "its holes are kept"
        with (tmp_path / "big").open("rb") as file:
            assert file.read(6) == b"start\0" and file.seek(5 << 30) and file.read() == b"end"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_copy_that_fails_half_way_leaves_the_old_one(container: Any, tmp_path: Path, monkeypatch: Any) -> None:
    execute(container, "mkdir -p /tmp/h && head -c 3000000 /dev/zero >/tmp/h/big && echo new >/tmp/h/a")
    (tmp_path / "h").mkdir()
    (tmp_path / "h/a").write_text("old")
    with pytest.raises(TransferError, match="more than is allowed"):
        copy_from_container(container, "/tmp/h", tmp_path / "h", max_bytes=1_000_000)
    assert _tree(tmp_path / "h") == {".": ("folder", 0o755), "a": ("file", 0o644, b"old", "a")}
    assert [path.name for path in tmp_path.iterdir()] == ["h"]
    # Into the container: a source that turns out to be unreadable, and an engine that has no room.
    execute(container, "mkdir -p /tmp/i && echo old >/tmp/i/a")
    (tmp_path / "fifo").mkdir()
    (tmp_path / "fifo/a").write_text("new")
    os.mkfifo(tmp_path / "fifo/z")
    with pytest.raises(TransferError, match="neither file"):
        copy_to_container(container, tmp_path / "fifo", "/tmp/i")
    assert execute(container, ["cat", "/tmp/i/a"]).output == b"old\n"


def test_no_room_in_the_container(library: Any, sound: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    if "Podman" in str(library.version()):
        pytest.skip("Podman makes no volume of a limited size here")
    # Not a tmpfs of the container's own: the archive API does not see one.
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    volume = library.volumes.create(driver="local", driver_opts=options)
    with running(library, sound, volumes={volume.name: {"bind": "/small", "mode": "rw"}}) as container:
        execute(container, "echo old >/small/big")
        with pytest.raises(InfraError):
            copy_to_container(container, tmp_path / "big", "/small/big")
        assert execute(container, "cat /small/big; ls -A /small").output == b"old\nbig\n"
    volume.remove(force=True)


def test_twenty_threads_at_once(container: Any, tmp_path: Path) -> None:
    def one(number: int) -> None:
        (tmp_path / f"s{number}").write_text(str(number))
        copy_to_container(container, tmp_path / f"s{number}", f"/tmp/t/{number}/x", verbose=False)
        copy_from_container(container, f"/tmp/t/{number}", tmp_path / f"d{number}", verbose=False)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / f"d{number}/x").read_text() for number in range(20)] == [str(n) for n in range(20)]


# Owners and users.


def _about(container: Any, *paths: str) -> list[str]:
    done = execute(container, ["stat", "-c", "%U %G %a", "--", *paths], user="0")
    return done.check().stdout.decode().splitlines()


@pytest.fixture
def home(container: Any) -> Iterator[str]:
    """A folder of the user agent, and what is in it."""
    script = "mkdir -p /tmp/home/sub && echo old >/tmp/home/file && echo old >/tmp/home/sub/file && umask 0"
    script += " && chmod 600 /tmp/home/file && chmod 700 /tmp/home/sub && chmod 640 /tmp/home/sub/file"
    execute(container, script, user="agent").check()
    yield "/tmp/home"
    execute(container, ["rm", "-rf", "/tmp/home"], user="0").check()


def test_what_is_there_keeps_its_owner_and_mode(container: Any, home: str, tmp_path: Path) -> None:
    (tmp_path / "home/sub").mkdir(parents=True)
    for name in ("file", "sub/file", "sub/fresh"):
        (tmp_path / "home" / name).write_text("new")
    copy_to_container(container, tmp_path / "home/file", f"{home}/file")
    assert _about(container, f"{home}/file") == ["agent agent 600"]
    copy_to_container(container, tmp_path / "home", home)
    names = [home, f"{home}/file", f"{home}/sub", f"{home}/sub/file", f"{home}/sub/fresh"]
    assert _about(container, *names) == [
        "agent agent 755", "agent agent 600", "agent agent 700", "agent agent 640", "root root 644",
    ]  # fmt: skip
    assert execute(container, f"cat {home}/file {home}/sub/file {home}/sub/fresh").output == b"newnewnew"


@pytest.mark.parametrize(
    ("owner", "expected"), [("agent", "agent agent"), ("1000:root", "agent root"), ("root:agent", "root agent")]
)
def test_an_owner_of_all_of_it(container: Any, home: str, tmp_path: Path, owner: str, expected: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("new")
    copy_to_container(container, tmp_path / "sub", f"{home}/sub", owner=owner)
    copy_to_container(container, tmp_path / "sub/file", f"{home}/a/b/file", owner=owner, mode=0o640)
    assert _about(container, f"{home}/sub/file", f"{home}/a", f"{home}/a/b", f"{home}/a/b/file") == [
        f"{expected} 640", f"{expected} 755", f"{expected} 755", f"{expected} 640",
    ]  # fmt: skip
    with pytest.raises(UserNotFound, match="nobody-here"):
        copy_to_container(container, tmp_path / "sub", f"{home}/sub", owner="nobody-here")


def test_writing_as_a_user(container: Any, home: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("new")
    (tmp_path / "sub/run").write_text("new")
    (tmp_path / "sub/run").chmod(0o775)
    copy_to_container(container, tmp_path / "sub", f"{home}/sub", user="agent")
    copy_to_container(container, tmp_path / "sub", f"{home}/other/sub", user="agent")
    copy_to_container(container, tmp_path / "sub/run", f"{home}/bin/run", user="agent")
    names = ("sub/file", "sub/run", "other", "other/sub/run", "bin", "bin/run")
    assert _about(container, *(f"{home}/{name}" for name in names)) == [
        "agent agent 640", "agent agent 775", "agent agent 755", "agent agent 775", "agent agent 755",
        "agent agent 775",
    ]  # fmt: skip
    assert execute(container, f"ls -A {home}").output.split() == [b"bin", b"file", b"other", b"sub"]
    for source, dest in (("sub/file", "/etc/passwd"), ("sub/file", "/new"), ("sub", "/etc/new"), ("sub", "/etc")):
        with pytest.raises(PathNotPermitted) as refused:
            copy_to_container(container, tmp_path / source, dest, user="agent")
        assert isinstance(refused.value, PermissionError)
    execute(container, f"ln -s /etc/passwd {home}/link && chmod 755 {home}", user="agent").check()
    with pytest.raises(PathNotPermitted):
        copy_to_container(container, tmp_path / "sub/file", f"{home}/link", user="agent")
    with pytest.raises(PathIsDirectory):
        copy_to_container(container, tmp_path / "sub/file", f"{home}/sub", user="agent")
    with pytest.raises(PathNotDirectory):
        copy_to_container(container, tmp_path / "sub", f"{home}/file", user="agent")
    assert execute(container, "grep -c agent /etc/passwd; ls /etc/.taskgate* /etc/new").output.startswith(b"1\n")


# Links and special files.


def test_links_are_followed_in_the_container_alone(container: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    script = f"""rm -rf /tmp/f; mkdir -p /tmp/f/d {tmp_path} && echo inside >{tmp_path}/secret && cd /tmp/f
    ln -s {tmp_path}/secret out; ln -s d/x chain; ln -s ../out d/x; ln -s /nowhere dangling; ln -s {tmp_path} folder"""
    execute(container, script).check()
    copy_from_container(container, "/tmp/f", tmp_path / "links")
    assert (tmp_path / "links/out").is_symlink()
    setup_logger(tmp_path / "log")
    copy_from_container(container, "/tmp/f", tmp_path / "copy", follow=True)
    setup_logger(os.devnull)
    assert "dangling" in (tmp_path / "log").read_text()
    found = _tree(tmp_path / "copy")
    assert sorted(found) == [".", "chain", "d", "d/x", "folder", "folder/secret", "out"]
    assert {entry[2] for entry in found.values() if entry[0] == "file"} == {b"inside\n"}
    assert not any(entry[0] == "link" for entry in found.values())
    copy_from_container(container, "/tmp/f/chain", tmp_path / "one", follow=True)
    assert (tmp_path / "one").read_text() == "inside\n"
    execute(container, "ln -s .. /tmp/f/d/up").check()
    with pytest.raises(TransferError, match="holds it"):
        copy_from_container(container, "/tmp/f", tmp_path / "endless", follow=True)
    execute(container, ["rm", "-rf", "/tmp/f", str(tmp_path)])


def test_special_files_may_be_left_out(container: Any, tmp_path: Path) -> None:
    execute(container, "mkdir -p /tmp/s && mkfifo /tmp/s/pipe && echo x >/tmp/s/file").check()
    with pytest.raises(TransferError, match="neither file"):
        copy_from_container(container, "/tmp/s", tmp_path / "s")
    copy_from_container(container, "/tmp/s", tmp_path / "s", special="skip")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["file"]
    os.mkfifo(tmp_path / "s/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s/socket"))
        with pytest.raises(TransferError, match="neither file"):
            copy_to_container(container, tmp_path / "s", "/tmp/back")
        (tmp_path / "s/pipe").unlink()
        with pytest.raises(TransferError, match="neither file"):
            copy_to_container(container, tmp_path / "s", "/tmp/back")
        os.mkfifo(tmp_path / "s/pipe")
        copy_to_container(container, tmp_path / "s", "/tmp/back", special="skip")
    assert execute(container, "ls -A /tmp/back").output == b"file\n"


def test_errors_are_of_their_kinds_and_logged(container: Any, tmp_path: Path) -> None:
    setup_logger(tmp_path / "log")
    with pytest.raises(PathNotFound) as missing:
        copy_from_container(container, "/absent", tmp_path / "x")
    assert isinstance(missing.value, TransferError) and isinstance(missing.value, FileNotFoundError)
    assert "ERROR" in (tmp_path / "log").read_text() and "/absent" in (tmp_path / "log").read_text()
    setup_logger(tmp_path / "quiet")
    with pytest.raises(PathNotFound):
        copy_from_container(container, "/absent", tmp_path / "x", verbose=False)
    assert (tmp_path / "quiet").read_text() == ""
    setup_logger(os.devnull)
    with pytest.raises(PathTooLarge):
        copy_from_container(container, "/etc/passwd", tmp_path / "x", max_bytes=3)


# Single files.


def test_files_are_looked_at(container: Any) -> None:
    execute(container, "cd /tmp; echo 12345 >file; chmod 4751 file; ln -sf file link; ln -sf /no gone; mkdir -p folder")
    found = container_files.stat(container, "/tmp/file")
    assert found and (found.kind, found.size, found.mode) == ("file", 6, 0o4751) and found.mtime
    followed, link = (container_files.stat(container, "/tmp/link", follow=follow) for follow in (True, False))
    assert followed and followed.kind == "file" and followed.path == "/tmp/file"
    assert link and link.kind == "link" and link.target == "/tmp/file"
    folder = container_files.stat(container, "/tmp/folder/")
    assert folder and folder.kind == "folder"
    assert container_files.stat(container, "/tmp/gone") is None and container_files.stat(container, "/tmp/no") is None
    assert container_files.exists(container, "/tmp/gone", follow=False) and not container_files.exists(container, "/no")


@pytest.mark.parametrize("user", [None, "", "agent"])
def test_files_are_read_and_written(container: Any, user: str | None) -> None:
    path = f"/tmp/rw-{user}/deep/a b"
    for text in ("first é\r\n", "", "second"):
        container_files.write_text(container, path, text, user=user)
        assert container_files.read_text(container, path, user=user) == text
    container_files.write_bytes(container, path, b"\xff\0", user=user, mode=0o700)
    assert container_files.read_bytes(container, path, user=user) == b"\xff\0"
    assert _about(container, path) == ["agent agent 700" if user == "agent" else "root root 700"]
    with pytest.raises(PathTooLarge):
        container_files.read_bytes(container, path, user=user, limit=1)
    with pytest.raises(PathNotFound, match="absent"):
        container_files.read_bytes(container, "/tmp/absent", user=user)
    with pytest.raises(PathIsDirectory):
        container_files.read_bytes(container, "/etc", user=user)
    with pytest.raises(PathIsDirectory):
        container_files.write_bytes(container, "/etc", b"", user=user)
    execute(container, "mkfifo /tmp/fifo; chmod 666 /tmp/fifo")
    with pytest.raises(TransferError, match="regular file"):
        container_files.read_bytes(container, "/tmp/fifo", user=user)
    if user == "agent":
        with pytest.raises(PathNotPermitted):
            container_files.read_bytes(container, "/etc/shadow", user=user)
        with pytest.raises(PathNotPermitted):
            container_files.write_bytes(container, "/etc/shadow", b"", user=user)
    execute(container, ["rm", "-rf", f"/tmp/rw-{user}"], user="0")


# Hostile archives.

Entry = tuple[str, bytes, str]
FILE, FOLDER, SOFT, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def _archive(entries: list[Entry]) -> tarfile.TarFile:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, more in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o6755
            if kind in (SOFT, HARD):
                member.linkname = more
            data = more.encode() if kind == FILE else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    out.seek(0)
    return tarfile.open(fileobj=out, mode="r|")


HOSTILE: dict[str, list[Entry]] = {
    "up": [("d", FOLDER, ""), ("d/../../out", FILE, "x")],
    "up at once": [("../out", FILE, "x")],
    "absolute": [("d", FOLDER, ""), ("/OUT/out", FILE, "x")],
    "beside": [("d", FOLDER, ""), ("e", FILE, "x")],
    "through a link": [("d", FOLDER, ""), ("d/l", SOFT, "/OUT"), ("d/l/out", FILE, "x")],
    "through a link upwards": [("d", FOLDER, ""), ("d/l", SOFT, "../.."), ("d/l/out", FILE, "x")],
    "the top is a link": [("d", SOFT, "/OUT"), ("d/out", FILE, "x")],
    "onto a link": [("d", FOLDER, ""), ("d/l", SOFT, "/OUT/kept"), ("d/l", FILE, "x")],
    "a folder onto a link": [("d", FOLDER, ""), ("d/l", SOFT, "/OUT"), ("d/l", FOLDER, ""), ("d/l/out", FILE, "x")],
    "a hard link out": [("d", FOLDER, ""), ("d/h", HARD, "/OUT/kept"), ("d/h", FILE, "x")],
    "a link to nothing": [("d", FOLDER, ""), ("d/l", SOFT, "")],
    "a link too long": [("d", FOLDER, ""), ("d/l", SOFT, "x" * 5000)],
    "a name too long": [("d", FOLDER, ""), ("d/" + "x" * 300, FILE, "x")],
    "a path too long": [("d", FOLDER, ""), ("d/" + "x/" * 2500, FILE, "x")],
    "a hard link to the top": [("d", FOLDER, ""), ("d/h", HARD, "d")],
    "a hard link to itself": [("d", HARD, "d")],
    "a hard link up": [("d", FOLDER, ""), ("d/h", HARD, "d/../../kept")],
    "a hard link through a link": [("d", FOLDER, ""), ("d/l", SOFT, "/OUT"), ("d/h", HARD, "d/l/kept")],
    "a hard link to a link": [("d", FOLDER, ""), ("d/l", SOFT, "/OUT/kept"), ("d/h", HARD, "d/l")],
    "a device": [("d", FOLDER, ""), ("d/dev", tarfile.CHRTYPE, "")],
    "a fifo": [("d", tarfile.FIFOTYPE, "")],
    "a file as a folder": [("d", FILE, "x"), ("d/out", FILE, "x")],
    "a folder as a file": [("d", FOLDER, ""), ("d/x", FOLDER, ""), ("d/x", FILE, "x")],
    "nothing": [],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_stays_inside(tmp_path: Path, name: str) -> None:
    out = tmp_path / "outside"
    out.mkdir()
    (out / "kept").write_text("kept")
    entries = [(n.replace("/OUT", str(out)), k, m.replace("/OUT", str(out))) for n, k, m in HOSTILE[name]]
    (tmp_path / "in").mkdir()
    target = tmp_path / "in/target"
    try:
        archive.unpack(_archive(entries), target)
    except TransferError:
        pass
    else:
        assert name in ("onto a link", "a folder onto a link"), "what replaces a link is no way out"
    assert _tree(out) == {".": ("folder", 0o755), "kept": ("file", 0o644, b"kept", "kept")}
    assert (out / "kept").stat().st_nlink == 1
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "in"}
    assert {path.name for path in (tmp_path / "in").iterdir()} <= {"target"}


KINDS = st.sampled_from([FILE, FOLDER, SOFT, HARD])
PARTS = st.sampled_from(["d", "l", "..", ".", "x", "", "outside"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PATHS, KINDS, PATHS), max_size=8))
def test_no_archive_gets_out(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "in").mkdir()
        (root / "outside").write_text("kept")
        with contextlib.suppress(TransferError):
            archive.unpack(_archive([("d", FOLDER, ""), *entries]), root / "in/target")
        assert (root / "outside").read_text() == "kept" and (root / "outside").stat().st_nlink == 1
        assert {path.name for path in root.iterdir()} == {"in", "outside"}
        assert {path.name for path in (root / "in").iterdir()} <= {"target"}


def test_set_id_bits_stay_behind(tmp_path: Path) -> None:
    archive.unpack(_archive([("x", FILE, "x")]), tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755


def test_there_is_an_end_to_it(tmp_path: Path) -> None:
    many: list[Entry] = [("d", FOLDER, ""), *((f"d/{number}", FILE, "") for number in range(50))]
    with pytest.raises(TransferError, match="more than is allowed"):
        archive.unpack(_archive(many), tmp_path / "a", max_entries=50)
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w") as tar:
        member = tarfile.TarInfo("bomb")
        member.size = 1 << 50
        tar.addfile(member)
    bomb.seek(0)
    with pytest.raises(TransferError, match="more than is allowed"), tarfile.open(fileobj=bomb, mode="r|") as tar:
        archive.unpack(tar, tmp_path / "b")
    assert not (tmp_path / "b").exists()
