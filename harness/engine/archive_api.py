"""The engine's archive API: what is at a path of a container, running or not, and all that is in it as a tar.

The SDK's get_archive can't be used: Podman encodes the description of a path in an alphabet that the SDK does not know,
and takes the path for a pattern.
"""

from __future__ import annotations

import base64
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification, sdk
from taskgate.harness.engine.platforms import is_podman
from taskgate.harness.engine.tar_stream import stream

CHUNK_BYTES = 2 << 20
# Podman 4.3 finds no name that holds `*`, however it is quoted; a folder of that name it returns whole.
GONE = re.compile(r"no such container|no container with", re.I)
PATTERN = re.compile(r"[*?\[\\]")
# Go's bits: a link; a device, a pipe, a socket.
LINK, SPECIAL = 1 << 27, 1 << 26 | 1 << 25 | 1 << 24
LINKS = 8
STAT_HEADER = "x-docker-container-path-stat"


def stat(api: Any, container: str, path: str) -> dict[str, Any] | None:
    """What the engine says of a path: `name`, `size`, `mode` (Go's bits), `mtime`, `linkTarget`; None where nothing is.

    Raises InfraError, also for a path that can't be resolved (a loop of links).
    """
    # A HEAD is twenty times as fast, but its failure has no message.
    with classification.translated(f"looking at {path}"):
        head = sdk.head_archive(api, container, path)
    # Podman says 404 of a link that leads nowhere, and describes it all the same.
    described = head.status_code == 200 or (head.status_code == 404 and STAT_HEADER in head.headers)
    if described and not PATTERN.search(path):
        return _about(head.headers)
    try:
        chunks, about = _ask(api, container, path)
    except FileNotFoundError:
        return None
    chunks.close()
    return about


def is_special_file(api: Any, container: str, path: str) -> bool:
    """Is there a pipe, a socket or a device, links followed? Raises InfraError."""
    for _ in range(LINKS):
        about = stat(api, container, path)
        mode = int(about["mode"]) if about else 0
        if about is None or not mode & LINK:
            return bool(mode & SPECIAL)
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


def _about(headers: Mapping[str, str]) -> dict[str, Any]:
    encoded = headers[STAT_HEADER]
    return dict(json.loads(base64.b64decode(encoded.replace("-", "+").replace("_", "/") + "==")))


def _ask(api: Any, container: str, path: str) -> tuple[Any, dict[str, Any]]:
    asked = path
    try:
        with classification.translated(f"reading {path}"):
            if PATTERN.search(path) and is_podman(api.version()):
                asked = PATTERN.sub(r"\\\g<0>", path)
            chunks, headers = sdk.get_archive(api, container, asked, CHUNK_BYTES)
            return chunks, _about(headers)
    except InfraError as error:
        # That the container itself is gone says nothing about the path.
        if classification.status_of(error) == 404 and not GONE.search(str(error)):
            raise FileNotFoundError(f"there is no {path} in the container") from error
        raise
