"""Images out of Dockerfiles: built side by side, named by their content, each with a log."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape, files
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.names import folder_name
from taskgate.harness.engine import build_context as contexts
from taskgate.harness.engine import classification
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks import buildkit, dockerignore
from taskgate.harness.tasks.importers.importer import Build, Row

SILENCE_SECONDS = 1800
PLATFORM = "linux/amd64"
LOG_BYTES = 64 << 20
REGISTRY_TROUBLE = re.compile(
    r"\b429\b|too ?many requests|\b50[0234]\b|timeout|timed out|connection re(?:set|fused)|no such host|TLS handshake",
    re.I,
)


# Which image of which task: the number of its row, and the name of the service (None: the task's own).
Key = tuple[int, str | None]


@dataclass(frozen=True, slots=True)
class Built:
    """`outcome` is built, there (it was already), failed (the Dockerfile's doing) or infra. `tag` names the image."""

    outcome: str
    tag: str
    reason: str | None = None


class Builder:
    """Builds on one engine. Logs go to `out`, a file a task."""

    def __init__(self, connect: Callable[[], Engine], out: Path) -> None:
        self._connect, self._out = connect, out

    def run(self, rows: Mapping[Key, Row], *, jobs: int) -> Iterator[tuple[Key, Built]]:
        """The results as they come. Raises InfraError where no engine answers at the start."""
        self._connect().close()
        waiting: queue.SimpleQueue[tuple[Key, Row]] = queue.SimpleQueue()
        for item in rows.items():
            waiting.put(item)
        done: queue.SimpleQueue[tuple[Key, Built] | None] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=self._work, args=(waiting, done), daemon=True) for _ in range(min(jobs, len(rows)))
        ]
        for thread in threads:
            thread.start()
        alive = len(threads)
        while alive:
            try:
                finished = done.get(timeout=0.2)
            except queue.Empty:
                continue
            if finished is None:
                alive -= 1
            else:
                yield finished

    def _work(
        self, waiting: queue.SimpleQueue[tuple[Key, Row]], done: queue.SimpleQueue[tuple[Key, Built] | None]
    ) -> None:
        engine: Engine | None = None
        try:
            while True:
                try:
                    number, row = waiting.get_nowait()
                except queue.Empty:
                    return
                tag = ""
                try:
                    engine = engine or self._connect()
                    assert row.build
                    tag = tag_of(str(row.fields.get("id")), row.build)
                    done.put((number, self._build(engine, tag, row)))
                except InfraError as error:
                    done.put((number, Built("infra", tag, str(error)[:2000])))
                except (OSError, ValueError, RecursionError, UsageError) as error:
                    done.put((number, Built("failed", tag, f"the context can't be read: {error}"[:2000])))
                except Exception as error:
                    # Each has its result, or the others would go unreported.
                    done.put((number, Built("infra", tag, f"taskgate itself failed: {error!r}"[:2000])))
        finally:
            if engine:
                engine.close()
            done.put(None)

    def _build(self, engine: Engine, tag: str, row: Row) -> Built:
        if engine.inspect(tag) is not None:
            return Built("there", tag)
        assert row.build
        sent = dockerignore.files(row.build.context, row.build.dockerfile)
        log = self._out / f"{folder_name(str(row.fields.get('id')))}.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                return self._built(engine, tag, row.build, sent, _Log(file.write))
        except OSError as error:
            raise files.trouble(log, error) from error

    def _built(self, engine: Engine, tag: str, build: Build, sent: list[str], log: _Log) -> Built:
        if (needed := buildkit.needed_by(build)) and not buildkit.available():
            reason = f"the Dockerfile has {needed}, which needs BuildKit: install docker's buildx plugin"
            return Built("infra", tag, reason)
        try:
            with tempfile.TemporaryFile() as context:
                packed: Any = contexts.create_archive(str(build.context.absolute()), sent, fileobj=context)
                packed.seek(0)
                if buildkit.available():
                    argv = buildkit.command(engine.url, tag, build)
                    last = buildkit.run(argv, packed, log.add, silence=SILENCE_SECONDS)
                    return Built("built", tag) if last is None else _failure(tag, last)
                events = engine.build_image(
                    packed,
                    tag,
                    silence=SILENCE_SECONDS,
                    dockerfile=build.dockerfile,
                    args=build.args,
                    target=build.target,
                    platform=build.platform,
                )
                for event in events:
                    log.add(str(event.get("stream") or event.get("status") or event.get("error") or ""))
                    if message := event.get("error"):
                        return _failure(tag, str(message))
        except InfraError as error:
            answer = classification.answer_of(error)
            if answer and 400 <= (answer.status or 500) < 500:
                # The engine read the Dockerfile and refused it.
                return _failure(tag, answer.text)
            raise
        return Built("built", tag)


def tag_of(task_id: str, build: Build) -> str:
    """`taskgate-build/ID:HASH`: the same content has the same name. Raises OSError."""
    total = hashlib.sha256()
    how: list[Any] = [build.dockerfile, sorted(build.args.items()), build.target]
    total.update(json.dumps([*how, *([build.platform] if build.platform not in (None, PLATFORM) else [])]).encode())
    for path in sorted(build.context.rglob("*")):
        about = path.lstat()
        head = f"{path.relative_to(build.context)} {stat.S_IFMT(about.st_mode):o} {about.st_mode & 0o111:o} ".encode(
            "utf-8", "surrogateescape"
        )
        total.update(head)
        if path.is_symlink():
            total.update(os.fsencode(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    name = re.sub(r"[^a-z0-9]+", "-", task_id.lower()).strip("-")[:100] or "task"
    return f"taskgate-build/{name}:{total.hexdigest()[:16]}"


def _failure(tag: str, message: str) -> Built:
    last = escape.line(message, 500)
    infra = classification.NO_SPACE.search(message) or REGISTRY_TROUBLE.search(message)
    return Built("infra" if infra else "failed", tag, last)


class _Log:
    """What a build printed, up to a limit."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write, self._left = write, LOG_BYTES

    def add(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")[: self._left]
        if data and not data.endswith(b"\n"):
            data += b"\n"
        self._left -= len(data)
        self._write(data)
