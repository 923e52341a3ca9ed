"""Looks up the images of a whole manifest in their registries, hundreds at once; nothing is pulled."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from taskgate.harness.base.errors import ImageNotFound, PlatformUnavailable, RegistryError, TaskgateError
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.images import Image
from taskgate.harness.engine.platforms import platform, same_platform
from taskgate.harness.engine.registries.reference import Reference
from taskgate.harness.engine.registries.registry_client import INDEXES, Client

AT_ONCE = 200
# How far ahead a worker looks that shares the manifest with others.
AHEAD = 32
# Characters kept of a text: there may be ten thousand images.
TEXT = 200


class RegistryLookup:
    """Looks up images, each once; `expect` looks up many at once.

    `existence`: only whether an image exists will be asked, by a HEAD, which registries do not count as a pull.
    The digest stays unknown, and the platform is taken to be the one requested.
    """

    def __init__(self, *, existence: bool = False, at_once: int = AT_ONCE) -> None:
        self._existence = existence
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="taskgate-lookup")
        self._known: dict[tuple[str, str], Future[Image]] = {}
        self._order, self._place, self._ahead = list[ImageRequest](), dict[tuple[str, str], int](), 0

    def expect(self, requests: Iterable[ImageRequest], *, ahead: int | None = None) -> None:
        """Start to look these up, without waiting: all of them, or `ahead` of each `image` that is asked for."""
        self._order, self._ahead = list(requests), ahead or 0
        self._place = {request.key: number for number, request in enumerate(self._order)}
        for request in self._order if ahead is None else ():
            self._begin(request)

    def image(self, request: ImageRequest) -> Image:
        """The image as its registry describes it. Raises ImageNotFound, PlatformUnavailable, RegistryError."""
        future = self._begin(request)
        here = self._place.get(request.key, len(self._order))
        for following in self._order[here + 1 : here + 1 + self._ahead]:
            self._begin(following)
        try:
            return future.result()
        except TaskgateError as error:
            if isinstance(error, RegistryError):
                # The client has made all tries that make sense.
                error.transient = False
            # A later call asks anew.
            with self._lock:
                if self._known.get(request.key) is future:
                    del self._known[request.key]
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _begin(self, request: ImageRequest) -> Future[Image]:
        with self._lock:
            if request.key not in self._known:
                self._known[request.key] = self._pool.submit(self._look, request)
            return self._known[request.key]

    def _client(self, registry: str) -> Client:
        with self._lock:
            return self._clients.setdefault(registry, Client(registry))

    def _look(self, request: ImageRequest) -> Image:
        reference = Reference.parse(request.image)
        client = self._client(reference.registry)
        if self._existence:
            if not client.exists(reference):
                raise ImageNotFound(f"the registry has no such image: {request.image}")
            return Image("", request.platform, "", {}, False)
        try:
            manifest = client.manifest(reference)
        except ImageNotFound as error:
            raise ImageNotFound(f"the registry has no such image: {error}") from error
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            chosen = _chosen(manifest, request)
            manifest = client.manifest(Reference(reference.registry, reference.repository, chosen))
        config = manifest.get("config")
        digest = config.get("digest") if isinstance(config, dict) else None
        if not isinstance(digest, str) or len(digest) > TEXT:
            # Such as the oldest format, which today's engines refuse as well.
            raise RegistryError(f"{request.image}: unknown kind of manifest: {str(manifest.get('mediaType'))[:100]}")
        try:
            about = client.blob(reference.repository, digest)
        except ImageNotFound as error:
            raise RegistryError(
                f"{request.image}: its registry has the manifest, but not the configuration that it names"
            ) from error
        inner = about.get("config")
        inner = inner if isinstance(inner, dict) else {}
        return Image(
            digest=digest,
            platform=_platform(about),
            user=str(inner.get("User") or "")[:TEXT],
            env={},
            healthcheck=bool(inner.get("Healthcheck")),
        )


def _platform(about: dict[str, Any]) -> str:
    """Values other than strings are ignored."""
    parts = (about.get(name) for name in ("os", "architecture", "variant"))
    return platform(*(part[:TEXT] if isinstance(part, str) else None for part in parts))


def _chosen(index: dict[str, Any], request: ImageRequest) -> str:
    """The digest of the entry for the task's platform. Raises PlatformUnavailable."""
    offered = []
    entries = index.get("manifests")
    for entry in entries if isinstance(entries, list) else ():
        about = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(about, dict) or not isinstance(entry.get("digest"), str):
            continue
        name = _platform(about)
        offered.append(name)
        if same_platform(name, request.platform):
            return str(entry["digest"])
    names = ", ".join(sorted({name for name in offered if not name.startswith("unknown")})) or "none"
    raise PlatformUnavailable(f"{request.image} is not published for {request.platform}; available: {names[:300]}")
