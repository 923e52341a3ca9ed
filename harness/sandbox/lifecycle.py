"""A container of a repository's own image, from its build to its removal."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import docker.errors
from docker.types import DeviceRequest

from taskgate.harness.base import escape
from taskgate.harness.base.errors import BuildFailed, ContainerError, InfraError
from taskgate.harness.engine import classification
from taskgate.harness.sandbox.log import safe_log

REPO_NAME = os.environ.get("REPO_NAME", "hyperagents")
GPU_DOMAIN = "genesis"
GPU_CDI = "nvidia.com/gpu=all"
# What engines say of a GPU that they can't give: Docker, Podman 4, later ones.
NO_GPU = ("could not select device driver", f"stat {GPU_CDI}", "cdi devices")


def build_container(
    client: Any,
    repo_path: str | os.PathLike[str] = "./",
    image_name: str = "app",
    container_name: str = "app-container",
    force_rebuild: bool = False,
    domains: Iterable[str] | None = None,
    verbose: bool = True,
) -> Any | None:
    """`make_container`, but None if it fails; the reason and the build's output are logged if `verbose`."""
    try:
        return make_container(
            client, repo_path, image_name, container_name, force_rebuild=force_rebuild, domains=domains, verbose=verbose
        )
    except (BuildFailed, ContainerError, InfraError) as error:
        if verbose:
            safe_log(f"{container_name}: {error}", logging.ERROR)
        return None


def make_container(
    client: Any,
    repo_path: str | os.PathLike[str] = "./",
    image_name: str = "app",
    container_name: str = "app-container",
    *,
    force_rebuild: bool = False,
    domains: Iterable[str] | None = None,
    verbose: bool = True,
    repo_name: str | None = None,
    read_only: bool = False,
) -> Any:
    """Start a container of the image that the repository's Dockerfile makes, and return it (the docker SDK's object).

    The image is built where there is none of exactly that name, and without cache where `force_rebuild` says so. A
    container of that name is removed first. The repository is mounted at `/{repo_name}` (default REPO_NAME, from the
    environment or `hyperagents`). It runs `tail -f /dev/null` under an init, so that stopping it takes no time, and
    has the host's GPUs where a domain contains "genesis".
    Raises BuildFailed (with the build's output), ContainerError, InfraError.
    """
    source = Path(repo_path).resolve()
    tag = image_name if ":" in image_name.rpartition("/")[2] or "@" in image_name else f"{image_name}:latest"
    if force_rebuild or not _has(client, tag):
        _build(client, source, tag, force_rebuild, verbose)
    elif verbose:
        safe_log(f"Using the image {tag}")
    with (
        contextlib.suppress(docker.errors.NotFound),
        classification.translated(f"removing {container_name}", keep=docker.errors.NotFound),
    ):
        client.containers.get(container_name).remove(force=True, v=True)
    gpu = _gpu(client) if any(GPU_DOMAIN in domain for domain in domains or ()) else {}
    where = f"/{repo_name or REPO_NAME}"
    try:
        container = client.containers.run(
            tag,
            entrypoint=["tail", "-f", "/dev/null"],
            command=[],
            name=container_name,
            detach=True,
            init=True,
            volumes={str(source): {"bind": where, "mode": "ro" if read_only else "rw"}},
            **gpu,
        )
    except docker.errors.APIError as error:
        answer = classification.explanation(error)
        with contextlib.suppress(docker.errors.APIError):
            client.containers.get(container_name).remove(force=True, v=True)
        if gpu and any(words in answer.lower() for words in NO_GPU):
            raise ContainerError(f"a domain asks for a GPU, and this host's engine offers none: {answer}") from error
        raise ContainerError(f"the container {container_name} could not be started: {answer}") from error
    _await_start(container)
    if verbose:
        safe_log(f"Container {container.name} runs, {escape.line(str(source), 1000)} is at {where}")
    return container


def cleanup_container(container: Any | None, verbose: bool = True) -> None:
    """Stop and remove a container with its anonymous volumes. None is fine, and so is one that is gone.

    Removal is tried whatever came of stopping. What fails is logged (if `verbose`), never raised.
    """
    if container is None:
        return
    steps: dict[str, Callable[[], None]] = {
        "stopping": lambda: container.stop(timeout=5),
        "removing": lambda: container.remove(force=True, v=True),
    }
    for doing, act in steps.items():
        try:
            with classification.translated(doing, keep=docker.errors.NotFound):
                act()
        except docker.errors.NotFound:
            return
        except InfraError as error:
            if verbose and "is already in progress" not in str(error):
                safe_log(f"{doing} {container.name}: {error}", logging.WARNING)
            continue
        if verbose:
            safe_log(f"{doing} {container.name}: done")


def _await_start(container: Any) -> None:
    """The SDK's object knows only that it was created. Raises ContainerError if it has ended again, InfraError."""
    with classification.translated("inspecting a container"):
        container.reload()
    if container.status != "running":
        raise ContainerError(f"the container {container.name} is {container.status} right after its start")


def _has(client: Any, tag: str) -> bool:
    try:
        with classification.translated(f"looking for {tag}", keep=docker.errors.NotFound):
            client.images.get(tag)
    except docker.errors.NotFound:
        return False
    return True


def _build(client: Any, source: Path, tag: str, anew: bool, verbose: bool) -> None:
    if not (source / "Dockerfile").is_file():
        raise BuildFailed(f"there is no Dockerfile in {source}", "")
    output: list[str] = []
    with classification.translated(f"building {tag}"):
        for event in client.api.build(path=str(source), tag=tag, rm=True, forcerm=True, nocache=anew, decode=True):
            text = str(event.get("stream") or event.get("error") or event.get("status") or "")
            output.append(text)
            if verbose and text.strip():
                safe_log(escape.visible(text.rstrip(), keep="\n\t"))
            if "error" in event:
                raise BuildFailed(f"building {tag} failed: {text.strip()[:2000]}", "".join(output))


def _gpu(client: Any) -> dict[str, Any]:
    """All GPUs, in the words that this engine understands."""
    with classification.translated("asking what engine this is"):
        about = client.version()
    names = [str(part.get("Name", "")).lower() for part in about.get("Components") or ()]
    if any("podman" in name for name in names):
        return {"devices": [GPU_CDI]}
    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}
