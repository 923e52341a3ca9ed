"""A limit on the disk that pulled images take: the least useful of those that runs pulled are removed again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from taskgate.harness.base import files, locks
from taskgate.harness.base.errors import InfraError, NoSpace
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine

# Docker's empty layer. An image's history gives it a size of 0, as it does to entries without a layer.
EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
WAIT_SECONDS = 0.2


# A process, and its start time.
User = tuple[int, str]


def _lives(user: User) -> bool:
    return ownership.is_alive(user[0], user[1]) is not False


@dataclass(slots=True)
class Pulled:
    """An image that a run pulled. `layers`: bytes by chain of layer digests. `users`: processes that need it."""

    digest: str
    layers: dict[str, int]
    users: list[User]
    used: float

    @property
    def busy(self) -> bool:
        return any(map(_lives, self.users))


class DiskBudget:
    """Keeps what all runs of this host have pulled into one engine within `size` bytes.

    `wanted`: the number of tasks on each image. The ledger is a file that all workers share, so that what a killed run
    pulled is not forgotten. An image that was there before is never removed.
    """

    def __init__(self, engine_url: str, size: int, wanted: Mapping[str, int], session: str) -> None:
        folder = locks.folder(engine_url)
        self._path, self._lock = folder / "pulled.json", FileLock(folder / "pulled.lock")
        self._size, self._wanted, self._session = size, wanted, session
        self._me = (os.getpid(), ownership.started(os.getpid()) or "")

    def use(self, image: str) -> None:
        """Keep the image, if it is there, until `release` or the end of this process."""
        with self._ledger() as ledger:
            if (known := ledger.images.get(image)) and self._me not in known.users:
                known.users.append(self._me)

    def release(self, image: str, *, again: bool = False) -> None:
        """A task on the image is judged: this process no longer needs the image, unless `again`."""
        with self._ledger() as ledger:
            ledger.done[image] += 1
            if (known := ledger.images.get(image)) and not again:
                known.users = [user for user in known.users if user != self._me]
                known.used = time.time()

    @contextlib.contextmanager
    def pulling(self, engine: Engine, image: str) -> Iterator[None]:
        """Around a pull after `make_room`; afterwards this process needs the image. Raises InfraError."""
        try:
            yield
            digest, layers = _layers(engine, image)
            with self._ledger() as ledger:
                known = ledger.images.get(image)
                users = known.users if known and known.digest == digest else []
                ledger.images[image] = Pulled(digest, layers, [*users, self._me], time.time())
                ledger.largest = max(ledger.largest, sum(layers.values()))
        finally:
            with self._ledger() as ledger:
                if self._me in ledger.coming:
                    ledger.coming.remove(self._me)

    def make_room(self, engine: Engine, *, wait: bool) -> bool:
        """Remove images until another one of the largest size fits, and reserve the room. With `wait`, wait for images
        that others need; without, return False if there is no room. Raises InfraError."""
        while True:
            with self._ledger() as ledger:
                ledger.coming = [user for user in ledger.coming if _lives(user)]
                while not (room := ledger.size + ledger.largest * (len(ledger.coming) + 1) <= self._size):
                    if not self._remove_one(engine, ledger):
                        break
                users = [*ledger.coming, *(user for pulled in ledger.images.values() for user in pulled.users)]
                # Nobody else will make room: the image is larger than the budget, and is judged all the same.
                alone = not any(user != self._me and _lives(user) for user in users)
                if room or (wait and alone):
                    ledger.coming.append(self._me)
                    return True
            if not wait:
                return False
            time.sleep(WAIT_SECONDS)

    def remove_all(self, engine: Engine) -> None:
        """The disk is full: remove all images that nobody needs."""
        with self._ledger() as ledger:
            while self._remove_one(engine, ledger):
                pass

    def _remove_one(self, engine: Engine, ledger: _Ledger) -> bool:
        """Remove an image that no task is left for, else the least recently used one. False: there is none."""
        idle = [image for image, pulled in ledger.images.items() if not pulled.busy]
        idle.sort(key=lambda image: (self._wanted.get(image, 0) > ledger.done[image], ledger.images[image].used))
        for image in idle:
            if _remove(engine, image, ledger.images[image].digest):
                del ledger.images[image]
                return True
        return False

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[_Ledger]:
        try:
            with self._lock:
                ledger = _Ledger.read(self._path, self._session)
                yield ledger
                files.write(self._path, ledger.text())
        except OSError as error:
            raise files.trouble(self._path, error) from error


@dataclass(slots=True)
class _Ledger:
    """`done`: how many tasks on an image this session has judged. `largest`: bytes of the largest image it pulled.
    `coming`: the processes that are pulling."""

    session: str
    images: dict[str, Pulled]
    done: Counter[str]
    largest: int
    coming: list[User]

    @property
    def size(self) -> int:
        """Bytes that the images take together; shared layers count once."""
        every = {chain: size for pulled in self.images.values() for chain, size in pulled.layers.items()}
        return sum(every.values())

    @classmethod
    def read(cls, path: Path, session: str) -> _Ledger:
        try:
            return cls._of(json.loads(path.read_bytes()), session)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            # Without a ledger, no image is known to be a run's, and none is removed.
            return cls(session, {}, Counter(), 0, [])

    @classmethod
    def _of(cls, document: dict[str, Any], session: str) -> _Ledger:
        same = document.get("session") == session
        images = {
            image: Pulled(entry["digest"], entry["layers"], [tuple(user) for user in entry["users"]], entry["used"])
            for image, entry in document.get("images", {}).items()
        }
        done = Counter[str](document.get("done", {}) if same else {})
        coming = [tuple(user) for user in document.get("coming", ())]
        return cls(session, images, done, document.get("largest", 0) if same else 0, coming)

    def text(self) -> bytes:
        images = {
            image: {"digest": entry.digest, "layers": entry.layers, "users": entry.users, "used": entry.used}
            for image, entry in self.images.items()
        }
        document = {"session": self.session, "images": images, "done": self.done, "largest": self.largest}
        return json.dumps({**document, "coming": self.coming}).encode()


def _remove(engine: Engine, image: str, digest: str) -> bool:
    """Remove an image if it is still the one that was pulled; True if it is gone. Raises EngineUnavailable."""
    current = engine.local(image)
    if current is None or current.digest != digest:
        return True
    try:
        # A container may be using it.
        return engine.remove_image(image) or engine.local(image) is None
    except NoSpace:
        raise
    except InfraError:
        return engine.local(image) is None


def _layers(engine: Engine, image: str) -> tuple[str, dict[str, int]]:
    """An image's digest, and the bytes of its layers, each by the chain of digests up to it. Raises InfraError."""
    about = engine.inspect(image) or {}
    names = [str(name) for name in (about.get("RootFS") or {}).get("Layers") or () if name != EMPTY]
    sizes = [int(entry.get("Size") or 0) for entry in reversed(engine.history(image))]
    sizes = [size for size in sizes if size]
    digest = str(about.get("Id") or "")
    digest = digest if digest.startswith("sha256:") else f"sha256:{digest}"
    if len(sizes) != len(names):
        return digest, {digest: int(about.get("Size") or sum(sizes))}
    chains = ["+".join(name.removeprefix("sha256:")[:16] for name in names[: end + 1]) for end in range(len(names))]
    return digest, dict(zip(chains, sizes, strict=True))
