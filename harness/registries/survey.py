"""What registries have of a whole manifest: hundreds of questions at once, nothing pulled."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from taskgate.harness.engine import Image, platform
from taskgate.harness.errors import ImageNotFound, PlatformUnavailable, RegistryError, TaskgateError
from taskgate.harness.registries.client import INDEXES, Client
from taskgate.harness.registries.reference import Reference
from taskgate.harness.task import Task

AT_ONCE = 200
# How far a worker looks ahead that shares the manifest with others.
AHEAD = 32
# What is kept of an image is kept of ten thousand.
TEXT = 200


class Survey:
    """Looks images up. What was asked once is known; `expect` asks for many at once.

    `existence`: whether an image is there is all that will be asked. A HEAD tells that, which counts as no pull where
    pulls are counted; digest and platform remain unknown, and are said to be what the task wants.
    """

    def __init__(self, *, existence: bool = False, at_once: int = AT_ONCE) -> None:
        self._existence = existence
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="taskgate-survey")
        self._known: dict[tuple[str, str], Future[Image]] = {}
        self._order, self._place, self._ahead = list[Task](), dict[tuple[str, str], int](), 0

    def expect(self, tasks: Iterable[Task], *, ahead: int | None = None) -> None:
        """These will be asked for, in this order: ask now, without waiting; or for so many `ahead` of each."""
        self._order, self._ahead = list(tasks), ahead or 0
        self._place = {_key(task): number for number, task in enumerate(self._order)}
        for task in self._order if ahead is None else ():
            self._begin(task)

    def image(self, task: Task) -> Image:
        """What the registry says of the task's image. Raises ImageNotFound, PlatformUnavailable, RegistryError."""
        future = self._begin(task)
        here = self._place.get(_key(task), len(self._order))
        for following in self._order[here + 1 : here + 1 + self._ahead]:
            self._begin(following)
        try:
            return future.result()
        except TaskgateError as error:
            if isinstance(error, RegistryError):
                # It was asked as often as makes sense.
                error.transient = False
            # The next try is a new question.
            with self._lock:
                if self._known.get(_key(task)) is future:
                    del self._known[_key(task)]
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, task: Task) -> Future[Image]:
        with self._lock:
            if _key(task) not in self._known:
                self._known[_key(task)] = self._pool.submit(self._look, task)
            return self._known[_key(task)]

    def _client(self, registry: str) -> Client:
        with self._lock:
            return self._clients.setdefault(registry, Client(registry))

    def _look(self, task: Task) -> Image:
        reference = Reference.parse(task.image)
        client = self._client(reference.registry)
        if self._existence:
            if not client.exists(reference):
                raise ImageNotFound(f"the registry has no such image: {task.image}")
            return Image("", task.platform, "", {}, False)
        try:
            told = client.manifest(reference)
        except ImageNotFound as error:
            raise ImageNotFound(f"the registry has no such image: {error}") from error
        if told.get("mediaType") in INDEXES or "manifests" in told:
            told = client.manifest(Reference(reference.registry, reference.repository, _chosen(told, task)))
        config = told.get("config")
        digest = config.get("digest") if isinstance(config, dict) else None
        if not isinstance(digest, str) or len(digest) > TEXT:
            # The oldest format has its configuration elsewhere; engines of today refuse it as well.
            raise RegistryError(
                f"{task.image}: a manifest of a kind that is not known: {str(told.get('mediaType'))[:100]}"
            )
        try:
            about = client.blob(reference.repository, digest)
        except ImageNotFound as error:
            raise RegistryError(
                f"{task.image}: its registry has a manifest, and not the configuration that it names"
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


def _key(task: Task) -> tuple[str, str]:
    return task.image, task.platform


def _platform(about: dict[str, Any]) -> str:
    """What is no text says nothing."""
    parts = (about.get(name) for name in ("os", "architecture", "variant"))
    return platform(*(part[:TEXT] if isinstance(part, str) else None for part in parts))


def _chosen(index: dict[str, Any], task: Task) -> str:
    """The digest of the entry for the task's platform. Raises PlatformUnavailable."""
    offered = []
    entries = index.get("manifests")
    for entry in entries if isinstance(entries, list) else ():
        about = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(about, dict) or not isinstance(entry.get("digest"), str):
            continue
        name = _platform(about)
        offered.append(name)
        if all(a == b for a, b in zip(name.split("/"), task.platform.split("/"), strict=False)):
            return str(entry["digest"])
    said = ", ".join(sorted({name for name in offered if not name.startswith("unknown")})) or "none"
    raise PlatformUnavailable(f"{task.image} is not published for {task.platform}; there are {said[:300]}")
