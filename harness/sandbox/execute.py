"""A command in a running container, with a deadline that ends it for good."""

from __future__ import annotations

import secrets
import selectors
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker.errors

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError
from taskgate.harness.engine import classification
from taskgate.harness.engine.attach_stream import STDERR, AttachStream

OUTPUT_BYTES = 16 * 1024 * 1024
GRACE_SECONDS = 10.0
# After so long a silence the engine is asked whether the command still runs.
SILENCE_SECONDS = 30.0
MARK = "TASKGATE_EXEC"

# The exec API can't kill. Every process that the command started has its mark in its environment, or its session, or
# an ancestor that has; they are looked for until none is left, so that one that forks meanwhile is found as well.
KILL = """
mark=$1
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  sessions=' ' doomed=' ' last=-
  while [ "$last" != "$doomed" ]; do
    last=$doomed
    for folder in /proc/[0-9]*; do
      pid=${folder#/proc/}
      [ "$pid" != $$ ] && [ "$pid" != 1 ] || continue
      case $doomed in *" $pid "*) continue ;; esac
      stat=
      read -r stat 2>/dev/null <"$folder/stat" || continue
      set -- ${stat##*") "}
      [ "$1" != Z ] && [ "$1" != X ] || continue
      hit=
      case $doomed in *" $2 "*) hit=1 ;; esac
      case $sessions in *" $4 "*) hit=1 ;; esac
      # A shell leaves out the NUL bytes.
      [ -n "$hit" ] || case $(cat "$folder/environ" 2>/dev/null) in
      *"$mark"*)
        hit=1
        [ "$4" -le 1 ] || sessions="$sessions$4 "
        ;;
      esac
      [ -z "$hit" ] || doomed="$doomed$pid "
    done
  done
  [ "$doomed" != ' ' ] || exit 0
  kill -9 $doomed 2>/dev/null
done
exit 1
"""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a command gave. `output` is stdout and stderr as they came, each of the three capped.

    `exit_code` is the command's, or 137 where it was `stopped`, which says why: `timed out after 5 s`, or
    `printed more than 1,000 bytes`. `ended` is False where its processes could not be killed. `seconds` is
    wall-clock time.
    """

    exit_code: int
    output: bytes
    stdout: bytes
    stderr: bytes
    seconds: float
    stopped: str | None = None
    ended: bool = True


def execute(
    container: Any,
    command: str | Sequence[str],
    *,
    timeout: float | None = None,
    stdin: bytes | str | None = None,
    user: str = "",
    environment: Mapping[str, str] | None = None,
    workdir: str | None = None,
    limit: int = OUTPUT_BYTES,
) -> Executed:
    """Run `command` (an argv, or a text for the container's /bin/sh) in a running container of the docker SDK.

    After `timeout` seconds, or once it has printed more than `limit` bytes, all its processes in the container are
    killed, those too that left its session; the container lives on and what was printed is kept. That needs /bin/sh
    in the container. Raises InfraError: EngineUnavailable, EngineTimeout where the engine hangs.
    """
    api, mark, begun = container.client.api, f"{MARK}={secrets.token_hex(12)}", time.monotonic()
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with classification.translated("running a command in a container"):
        made = api.exec_create(
            container.id,
            argv,
            stdin=data is not None,
            user=user,
            environment=[mark, *(f"{name}={value}" for name, value in (environment or {}).items())],
            workdir=workdir,
        )["Id"]
        frames = AttachStream(api.exec_start(made, socket=True))
    taken = _Taken(limit)
    try:
        stopped = _follow(api, made, frames, data, taken, begun + timeout if timeout is not None else None)
        ended = True
        if stopped is not None:
            stopped = stopped or f"timed out after {timeout:g} s"
            ended = _kill(container, mark)
            _drain(frames, taken)
        code = 137 if stopped else _status(api, made)
    finally:
        frames.close()
    output, out, err = taken.result()
    return Executed(code, output, out, err, time.monotonic() - begun, stopped, ended)


class _Taken:
    """What was printed so far, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._parts: list[tuple[int, bytes]] = []

    def add(self, parts: list[tuple[int, bytes]]) -> bool:
        """Keep what there is room for; False once there was more."""
        for stream, part in parts:
            room = self.limit - self.size
            self.size += len(part)
            if room > 0:
                self._parts.append((stream, part[:room]))
        return self.size <= self.limit

    def result(self) -> tuple[bytes, bytes, bytes]:
        out = b"".join(part for stream, part in self._parts if stream != STDERR)
        err = b"".join(part for stream, part in self._parts if stream == STDERR)
        return b"".join(part for _, part in self._parts), out, err


def _follow(
    api: Any, made: str, frames: AttachStream, data: bytes | None, taken: _Taken, deadline: float | None
) -> str | None:
    """Feed and read until the end: None; or why it must be stopped, an empty text at the deadline."""
    left = memoryview(data or b"")
    if data is not None and not left:
        frames.end_input()
    while True:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return ""
        wait = SILENCE_SECONDS if deadline is None else min(SILENCE_SECONDS, deadline - now)
        if left:
            left = _feed(frames, left, wait)
            if not left:
                frames.end_input()
                continue
            if not _readable(frames):
                continue
            wait = 0.01
        try:
            parts = frames.read(wait)
        except EngineUnavailable as error:
            if data is None or not isinstance(error.__cause__, ConnectionResetError):
                raise
            # So Podman ends the stream of a command that left some of its stdin unread; its status is asked for next.
            return None
        if parts is None:
            return None
        if not taken.add(parts):
            return f"printed more than {taken.limit:,} bytes"
        if not parts and not left and wait >= SILENCE_SECONDS:
            # Raises where the engine hangs. A command may be silent for as long as it likes.
            with classification.translated("asking for a command"):
                api.exec_inspect(made)


def _feed(frames: AttachStream, left: memoryview, wait: float) -> memoryview:
    """Send a piece of stdin as soon as there is room, or give up waiting when there is something to read."""
    with selectors.DefaultSelector() as selector:
        selector.register(frames, selectors.EVENT_READ | selectors.EVENT_WRITE)
        ready = selector.select(wait)
    if any(events & selectors.EVENT_WRITE for _, events in ready):
        try:
            frames.send(bytes(left[:4096]), GRACE_SECONDS)
        except BrokenPipeError:
            # The command does not want it all.
            return left[:0]
        return left[4096:]
    return left


def _readable(frames: AttachStream) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(frames, selectors.EVENT_READ)
        return bool(selector.select(0))


def _drain(frames: AttachStream, taken: _Taken) -> None:
    """What the killed processes had printed and is still under way."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        parts = frames.read(min(left, 1.0))
        if not parts:
            return
        taken.add(parts)


def _kill(container: Any, mark: str) -> bool:
    api = container.client.api
    try:
        with classification.translated("stopping a command in a container"):
            made = api.exec_create(container.id, ["/bin/sh", "-c", KILL, "sh", mark], user="0")["Id"]
            frames = AttachStream(api.exec_start(made, socket=True))
    except InfraError as error:
        if isinstance(error.__cause__, docker.errors.APIError):
            # No shell there.
            return False
        raise
    try:
        deadline = time.monotonic() + GRACE_SECONDS * 3
        while time.monotonic() < deadline:
            if frames.read(1.0) is None:
                return _status(api, made) == 0
    finally:
        frames.close()
    return False


def _status(api: Any, made: str) -> int:
    """The exit status, which the engine may know a moment after the stream's end."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        with classification.translated("asking for a command's status"):
            about = api.exec_inspect(made)
        if not about["Running"] and about.get("ExitCode") is not None:
            return int(about["ExitCode"])
        time.sleep(0.02)
    raise EngineTimeout("the engine does not say how a command ended") from InfraError(made)
