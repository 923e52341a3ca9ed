"""A container of a repository's own image: built, replaced, reached, cleaned up. On Docker and on Podman."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from taskgate.harness.base.errors import BuildFailed, ContainerError
from taskgate.harness.sandbox.execute import execute
from taskgate.harness.sandbox.lifecycle import build_container, cleanup_container, make_container
from taskgate.harness.sandbox.log import setup_logger
from tests.library import named


@pytest.fixture
def names(library: Any) -> Iterator[tuple[str, str]]:
    """Names for an image and a container that nothing else has."""
    unique = secrets.token_hex(4)
    image, container = f"taskgate-test/app-{unique}", f"taskgate-test-{unique}"
    yield image, container
    with contextlib.suppress(docker.errors.NotFound):
        library.containers.get(container).remove(force=True)
    for tag in (f"{image}:latest", f"{image}-longer:latest"):
        with contextlib.suppress(docker.errors.APIError):
            library.images.remove(tag, force=True)


@pytest.fixture
def repository(library: Any, sound: str, tmp_path: Path) -> Path:
    base = named(library, sound)
    # A build can't begin with a bare id.
    library.api.tag(base, "taskgate-test/library-base", "1", force=True)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/Dockerfile").write_text("FROM taskgate-test/library-base:1\nRUN echo built >/built\n")
    (tmp_path / "repo/file").write_text("of the host")
    return tmp_path / "repo"


def test_it_is_built_once_and_stays(library: Any, names: tuple[str, str], repository: Path) -> None:
    image, name = names
    # The name of another image holds this one's: no match.
    library.api.tag("taskgate-test/library-base:1", f"{image}-longer", "latest")
    started = build_container(library, repository, image, name)
    assert started is not None and started.name == name and started.status == "running"
    assert execute(started, ["cat", "/built", "/hyperagents/file"]).output == b"built\nof the host"
    execute(started, "echo new >/hyperagents/new")
    assert (repository / "new").read_text() == "new\n"
    first = library.images.get(f"{image}:latest").id
    # Again: the image is there, the container is replaced.
    (repository / "Dockerfile").write_text("FROM taskgate-test/library-base:1\nRUN echo other >/built\n")
    again = build_container(library, repository, image, name)
    assert again is not None and again.id != started.id and library.images.get(f"{image}:latest").id == first
    forced = build_container(library, repository, image, name, force_rebuild=True)
    assert forced is not None and execute(forced, ["cat", "/built"]).output == b"other\n"
    cleanup_container(forced)
    with pytest.raises(docker.errors.NotFound):
        library.containers.get(name)


def test_it_ends_when_asked_to(library: Any, names: tuple[str, str], repository: Path) -> None:
    """Without an init it would take no notice, and be killed after the ten seconds of grace."""
    started = make_container(library, repository, *names, verbose=False)
    # A signal that comes before the init is ready for one is lost.
    while b"tail" not in execute(started, "cat /proc/[0-9]*/comm").output:
        time.sleep(0.05)
    started.stop(timeout=10)
    started.reload()
    assert started.attrs["State"]["ExitCode"] == 128 + signal.SIGTERM
    cleanup_container(started)


def test_read_only_and_by_another_name(library: Any, names: tuple[str, str], repository: Path) -> None:
    started = make_container(library, repository, *names, repo_name="mine", read_only=True)
    assert execute(started, "cat /mine/file; touch /mine/x").exit_code != 0
    assert not (repository / "x").exists()
    cleanup_container(started)


def test_a_build_that_fails_is_none_and_in_the_log(
    library: Any, names: tuple[str, str], repository: Path, tmp_path: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM taskgate-test/library-base:1\nRUN echo the reason && exit 7\n")
    setup_logger(tmp_path / "build.log")
    assert build_container(library, repository, *names) is None
    said = (tmp_path / "build.log").read_text()
    assert "the reason" in said and "7" in said and "ERROR" in said
    setup_logger(tmp_path / "quiet.log")
    assert build_container(library, repository, *names, verbose=False) is None
    assert (tmp_path / "quiet.log").read_text() == ""
    with pytest.raises(BuildFailed) as caught:
        make_container(library, repository, *names)
    assert "the reason" in caught.value.output
    (repository / "Dockerfile").unlink()
    with pytest.raises(BuildFailed, match="no Dockerfile"):
        make_container(library, repository, *names)
    setup_logger(os.devnull)


def test_a_gpu_where_there_is_none(library: Any, names: tuple[str, str], repository: Path) -> None:
    with pytest.raises(ContainerError, match="asks for a GPU"):
        make_container(library, repository, *names, domains=["genesis_go2walking"])
    with pytest.raises(docker.errors.NotFound):
        library.containers.get(names[1])
    assert build_container(library, repository, *names, domains=["genesis"]) is None
    started = build_container(library, repository, *names, domains=["balrog"])
    assert started is not None
    cleanup_container(started)


def test_cleaning_up_what_is_not_there(library: Any, names: tuple[str, str], repository: Path) -> None:
    cleanup_container(None)
    started = make_container(library, repository, *names)
    started.remove(force=True)
    cleanup_container(started)
    cleanup_container(started, verbose=False)


def test_anonymous_volumes_go_too(library: Any, names: tuple[str, str], repository: Path) -> None:
    with (repository / "Dockerfile").open("a") as file:
        file.write("VOLUME /data\n")
    started = make_container(library, repository, *names)
    started.reload()
    its = {mount["Name"] for mount in started.attrs["Mounts"] if mount["Type"] == "volume"}
    assert its and its <= {volume.name for volume in library.volumes.list()}
    cleanup_container(started)
    assert not its & {volume.name for volume in library.volumes.list()}
