"""Puts the runtime into every image of a manifest, many at a time; continues after a kill."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tenacity

from taskgate.harness.base.errors import ImageError, InfraError, NoSpace, PlatformUnavailable, UsageError
from taskgate.harness.base.files import Lines, read_lines
from taskgate.harness.engine.client import Engine, full_name
from taskgate.harness.engine.image_name import is_valid, split, split_tag, without_registry
from taskgate.harness.runtime import dockerfile, injected, layer, sources
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task

TRIES = 4
Key = tuple[str, str, Runtime | None, str]


def key_of(task: Task) -> Key:
    """Tasks with the same key are served by one new image."""
    return task.image, task.platform, task.runtime, task.pull


def wants(task: Task) -> bool:
    """Is there something to put into its image?"""
    return task.runtime is not None and task.runtime.mode != "present"


@dataclass(frozen=True, slots=True)
class Injected:
    """What became of one image with one runtime (`key`).

    `outcome`: done, known (from before), broken, incompatible or infra.
    """

    image: str
    key: Key
    outcome: str
    tag: str | None = None
    path: str | None = None
    digest: str | None = None
    reason: str | None = None


class Injection:
    """`tag` is a template with `{repository}`, `{tag}`, `{name}` and `{hash}`; None: a name of taskgate's own.

    `mode` is layer or build; None: build where a task's runtime says so, else layer. With `push` every new image is
    pushed. The record in `out` is append-only.
    """

    def __init__(
        self, connect: Callable[[], Engine], out: Path, *, tag: str | None, mode: str | None, push: bool, jobs: int
    ) -> None:
        self._connect, self._tag, self._mode, self._push, self._jobs = connect, tag, mode, push, jobs
        self.out = out
        self._store = Store()
        self._record = Lines(out / "injected.jsonl")
        self._writing = threading.Lock()
        self._local = threading.local()
        self._names: dict[str, str] = {}
        self._known = {_key(line): line for line in read_lines(out / "injected.jsonl") if line.get("outcome") == "done"}

    def run(self, tasks: list[Task]) -> Iterator[Injected]:
        """One result an image and runtime, as they come. Raises UsageError, NoSpace before anything is built."""
        wanted = {key_of(task): task for task in tasks if wants(task)}
        with self._engine() as engine:
            for runtime, platform in sorted({(t.runtime, t.platform) for t in wanted.values()}, key=str):
                assert runtime is not None
                sources.resolve(engine, self._store, runtime, platform)
            self._room(engine, list(wanted.values()))
        with ThreadPoolExecutor(self._jobs) as pool:
            running = [pool.submit(self._inject, task) for task in wanted.values()]
            try:
                for future in as_completed(running):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def reference(self, task: Task, bundle: Bundle, base: str) -> str:
        """The new image's name. Raises UsageError where the template makes none."""
        own = injected.tag_of(bundle, base)
        if self._tag is None:
            return own
        repository, tag = split(task.image.partition("@")[0])
        repository = without_registry(repository)
        fields = {"repository": repository, "tag": tag, "name": repository.rpartition("/")[2], "hash": own[-32:]}
        try:
            name = self._tag.format_map(fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UsageError(f"{self._tag!r} knows only {', '.join(fields)}: {error}", field="--tag") from error
        if "@" in name or not split_tag(name)[2] or not is_valid(name):
            raise UsageError(f"{name!r} is not an image name with a tag", field="--tag")
        if full_name(name) == full_name(task.image):
            raise UsageError(f"{name} would take the name of the image that it is built from", field="--tag")
        with self._writing:
            if self._names.setdefault(full_name(name), own) != own:
                problem = f"two images would both be called {name}: add {{name}}, {{tag}} or {{hash}}"
                raise UsageError(problem, field="--tag")
        return name

    def _inject(self, task: Task) -> Injected:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_exponential(multiplier=0.5, max=10) + tenacity.wait_random(0, 0.5),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, InfraError) and error.transient),
            reraise=True,
        )
        try:
            return retrying(self._try, task)
        except PlatformUnavailable as error:
            return self._recorded(Injected(task.image, key_of(task), "incompatible", reason=str(error)))
        except ImageError as error:
            return self._recorded(Injected(task.image, key_of(task), "broken", reason=str(error)))
        except (InfraError, OSError) as error:
            return self._recorded(Injected(task.image, key_of(task), "infra", reason=str(error)))

    def _try(self, task: Task) -> Injected:
        assert task.runtime is not None
        with self._engine() as engine:
            image = engine.image(task.request)
            bundle = sources.resolve(engine, self._store, task.runtime, task.platform)
            tag = self.reference(task, bundle, image.digest)
            about = {
                "base": image.digest,
                "runtime": bundle.name,
                "prefix": bundle.prefix,
                "tag": tag,
                "push": self._push,
            }
            known = _key(about) in self._known and injected.existing(engine, tag, bundle, image.digest)
            if not known:
                built = (self._mode or task.runtime.mode) == "build"
                make = dockerfile.build if built else layer.append
                make(engine, bundle, self._store, image.digest, tag)
                if built:
                    dockerfile.keep(
                        self.out / "dockerfiles" / tag.replace("/", "_").replace(":", "_"), bundle, task.image
                    )
                if self._push:
                    engine.push(tag)
        outcome = "known" if known else "done"
        result = Injected(task.image, key_of(task), outcome, tag, bundle.prefix, image.digest)
        return result if known else self._recorded(result, about)

    def _recorded(self, result: Injected, about: dict[str, Any] | None = None) -> Injected:
        with self._writing:
            line = {"image": result.image, "outcome": result.outcome, "reason": result.reason, **(about or {})}
            self._record.append(line)
        return result

    def _room(self, engine: Engine, tasks: list[Task]) -> None:
        """Is there room on the engine's disk for all of it? Only where that disk can be seen from here."""
        root = engine.data_folder()
        if root is None:
            return
        need = 0
        for task in tasks:
            assert task.runtime is not None
            bundle = sources.resolve(engine, self._store, task.runtime, task.platform)
            digest = engine.digest(task.image)
            # A layer is never shared between different bases.
            if digest is None or not injected.existing(engine, self.reference(task, bundle, digest), bundle, digest):
                need += bundle.size
        free = shutil.disk_usage(root).free
        if need > free:
            raise NoSpace(f"{len(tasks)} images need {need >> 20} MiB more on the engine's disk, {free >> 20} are free")

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """This thread's own engine."""
        if not hasattr(self._local, "engine"):
            self._local.engine = self._connect()
        yield self._local.engine


def rewritten(tasks: list[Task], results: list[Injected], *, pushed: bool = False) -> list[Task]:
    """The tasks with their new images; without those whose image got none. Others stay as they are.

    What was not `pushed` no registry has: it is not pulled again.
    """
    new = {result.key: result for result in results if result.tag}
    changed = []
    for task in tasks:
        if not wants(task):
            changed.append(task)
        elif result := new.get(key_of(task)):
            assert result.tag
            pull = "missing" if task.pull == "always" and not pushed else task.pull
            runtime = Runtime(mode="present", path=result.path)
            changed.append(replace(task, image=result.tag, runtime=runtime, pull=pull))
    return changed


def _key(about: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(about.get(name)) for name in ("base", "runtime", "prefix", "tag", "push"))
