"""The engine's archive API: what is at a path of a container, running or not, and all that is in it as a tar.

Not by the SDK's get_archive: Podman encodes what it says of a path in an alphabet that the SDK does not know, and
takes the path for a pattern.
"""

from __future__ import annotations

import base64
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker.errors

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification
from taskgate.harness.engine.tar_stream import stream

CHUNK_BYTES = 2 << 20
# Podman 4.3 finds no name that holds `*`, however it is quoted; its folder it gives whole.
GONE = re.compile(r"no such container|no container with", re.I)
PATTERN = re.compile(r"[*?\[\\]")
# Go's bits: a link; a device, a pipe, a socket.
LINK, PECULIAR = 1 << 27, 1 << 26 | 1 << 25 | 1 << 24
LINKS = 8


def stat(api: Any, container: str, path: str) -> dict[str, Any] | None:
    """What the engine says of a path: `name`, `size`, `mode` (Go's bits), `mtime`, `linkTarget`; None where nothing is.

    Raises InfraError, also for a path that can't be resolved (a loop of links).
    """
    # A HEAD is twenty times as fast, but a failure has no words.
    with classification.translated(f"looking at {path}"):
        head = api.head(api._url("/containers/{0}/archive", container), params={"path": path}, timeout=api.timeout)
    if head.status_code == 200 and not PATTERN.search(path):
        return _about(head)
    try:
        chunks, about = _ask(api, container, path)
    except FileNotFoundError:
        return None
    chunks.close()
    return about


def peculiar(api: Any, container: str, path: str) -> bool:
    """Is there a pipe, a socket or a device, links followed? Raises InfraError."""
    for _ in range(LINKS):
        about = stat(api, container, path)
        mode = int(about["mode"]) if about else 0
        if about is None or not mode & LINK:
            return bool(mode & PECULIAR)
        path = str(about["linkTarget"])
    return False


@contextmanager
def tar(api: Any, container: str, path: str) -> Iterator[tarfile.TarFile]:
    """The tar of a file or folder, for one pass. Raises FileNotFoundError, InfraError."""
    chunks, _ = _ask(api, container, path)
    try:
        with stream(chunks, f"reading {path}") as archive:
            yield archive
    finally:
        chunks.close()


def _about(answer: Any) -> dict[str, Any]:
    told = answer.headers["x-docker-container-path-stat"]
    return dict(json.loads(base64.b64decode(told.replace("-", "+").replace("_", "/") + "==")))


def _ask(api: Any, container: str, path: str) -> tuple[Any, dict[str, Any]]:
    asked = path
    try:
        with classification.translated(f"reading {path}"):
            if PATTERN.search(path) and any(
                "podman" in str(part).lower() for part in api.version().get("Components") or ()
            ):
                asked = PATTERN.sub(r"\\\g<0>", path)
            answer = api._get(
                api._url("/containers/{0}/archive", container),
                params={"path": asked},
                stream=True,
                headers={"Accept-Encoding": "identity"},
            )
            api._raise_for_status(answer)
            return api._stream_raw_result(answer, CHUNK_BYTES, False), _about(answer)
    except InfraError as error:
        # That the container itself is gone says nothing of the path.
        if isinstance(error.__cause__, docker.errors.NotFound) and not GONE.search(str(error)):
            raise FileNotFoundError(f"there is no {path} in the container") from error
        raise
