"""A command in a running container, with a deadline that ends it for good."""

from __future__ import annotations

import io
import re
import selectors
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from taskgate.harness.base.errors import (
    CommandNotFound,
    CommandNotPermitted,
    CommandNotStarted,
    CommandStopped,
    CommandTimeout,
    EngineTimeout,
    EngineUnavailable,
    InfraError,
    ScriptFailed,
    UserNotFound,
    WorkdirNotFound,
)
from taskgate.harness.engine import classification, sdk
from taskgate.harness.engine.attach_stream import STDERR, AttachStream
from taskgate.harness.engine.platforms import is_podman
from taskgate.harness.sandbox._termination import VARIABLE, Termination, new_mark

OUTPUT_BYTES = 16 * 1024 * 1024
INPUT_BYTES = 256 * 1024
GRACE_SECONDS = 10.0
# After so long a silence the engine is asked whether the command still runs.
SILENCE_SECONDS = 30.0
# How often `cancel` is looked at.
CANCEL_SECONDS = 0.1
TIMED_OUT = "timed out"

# The engine's words for a command that it could not start, the first that fits. The names in them are the caller's.
_KINDS: tuple[tuple[re.Pattern[str], type[CommandNotStarted]], ...] = (
    (re.compile(r"unable to find (?:user|group)|no matching entries in (?:passwd|group)", re.I), UserNotFound),
    (re.compile(r"\bchdir to cwd\b|\bworkdir\b|\bworking directory\b|^mkdir ", re.I), WorkdirNotFound),
    (re.compile(r"executable file .{0,20}not found|no such file or directory", re.I), CommandNotFound),
    (re.compile(r"permission denied|is a directory|operation not permitted", re.I), CommandNotPermitted),
)
_START_CODES = (125, 126, 127)
_PODMAN_ERROR = re.compile(rb"Error: .*")
# Podman's own line at the end of stderr if a command left some of its stdin unread.
_PODMAN_UNREAD = re.compile(rb"Error: (?:read|write) unixpacket @->\S{1,100}/attach: .{1,100}\n")


@dataclass(frozen=True, slots=True)
class Executed:
    """The result of a command. `output` is stdout and stderr in the order of their arrival; each of the three is
    capped.

    `exit_code` is the command's, or 137 if it was `stopped`, which says why: `timed out after 5 s`, `printed more than
    1,000 bytes` or `cancelled`. `ended` is False if a process of it may be left in the container. `start_error` is set
    if the engine could not start the command; `exit_code` is 126 or 127 then, and nothing was printed. `seconds` is
    wall-clock time.
    """

    exit_code: int
    output: bytes
    stdout: bytes
    stderr: bytes
    seconds: float
    stopped: str | None = None
    ended: bool = True
    start_error: CommandNotStarted | None = None

    def check(self) -> Executed:
        """The result itself if the command ended with status 0.

        Raises CommandNotStarted, CommandTimeout, CommandStopped or ScriptFailed, all of them CommandErrors.
        """
        if self.start_error:
            raise self.start_error
        text = self.output.decode("utf-8", "replace")
        if self.stopped:
            kind = CommandTimeout if self.stopped.startswith(TIMED_OUT) else CommandStopped
            raise kind(f"the command was stopped: {self.stopped}", exit_code=self.exit_code, output=text)
        if self.exit_code:
            raise ScriptFailed(self.exit_code, text)
        return self


def execute(
    container: Any,
    command: str | Sequence[str],
    *,
    timeout: float | None = None,
    stdin: bytes | str | IO[bytes] | None = None,
    user: str = "",
    environment: Mapping[str, str] | None = None,
    workdir: str | None = None,
    limit: int = OUTPUT_BYTES,
    cancel: threading.Event | None = None,
) -> Executed:
    """Run `command` (an argv, or a script for the container's /bin/sh) in a running container of the docker SDK.

    `timeout` is in seconds, `limit` in bytes of output. Past either of them, or once `cancel` is set, all processes of
    the command are killed: also those of other users, and those that left its session. The container lives on, and
    what was printed is kept. Killing needs /bin/sh in the container. What a command leaves running at its own end goes
    on running.
    Raises InfraError: EngineUnavailable, EngineTimeout if the engine hangs.
    """
    began, mark = time.monotonic(), new_mark()
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    api = container.client.api
    with classification.translated("running a command in a container"):
        exec_id = api.exec_create(
            container.id,
            argv,
            stdin=stdin is not None,
            user=user,
            environment=[f"{VARIABLE}={mark}", *variables],
            workdir=workdir,
        )["Id"]
    try:
        started = time.time_ns()
        with classification.translated("running a command in a container"):
            stream = AttachStream(api.exec_start(exec_id, socket=True))
    except InfraError as error:
        if failure := _refused(api, exec_id, error):
            return _not_started(failure, time.monotonic() - began)
        raise
    output = _Output(stream, limit)
    deadline = began + timeout if timeout is not None else None
    try:
        stopped = _follow(api, exec_id, output, _Input(stdin), deadline, cancel)
        if stopped is not None:
            stopped = stopped or f"{TIMED_OUT} after {timeout:g} s"
            ended = Termination(container, exec_id, mark, user, began, output.pump).run()
            output.drain()
            return Executed(137, *output.result(), time.monotonic() - began, stopped, ended)
    finally:
        stream.close()
    code, failure = _status(api, exec_id), None
    if stdin is not None:
        output.drop_unread()
    if code in _START_CODES:
        failure = _start_error(container, exec_id, code, output.result()[0], started)
    if failure:
        return _not_started(failure, time.monotonic() - began)
    return Executed(code, *output.result(), time.monotonic() - began)


class _Output:
    """What was printed so far, in bounded memory."""

    def __init__(self, stream: AttachStream, limit: int) -> None:
        self.stream, self.limit, self.size, self.over = stream, limit, 0, False
        self._parts: list[tuple[int, bytes]] = []

    @property
    def flooded(self) -> bool:
        return self.size > self.limit

    def read(self, seconds: float) -> bool | None:
        """Wait for output, and keep what there is room for. False if none came; None, and `over`, at the end."""
        parts = None if self.over else self.stream.read(seconds)
        if parts is None:
            self.over = True
            return None
        for number, part in parts:
            room = self.limit - self.size
            self.size += len(part)
            if room > 0:
                self._parts.append((number, part[:room]))
        return bool(parts)

    def pump(self, seconds: float) -> None:
        """Read for so many seconds, but at least what is there already."""
        deadline = time.monotonic() + seconds
        while not self.over:
            try:
                more = self.read(max(0.001, deadline - time.monotonic()))
            except EngineUnavailable:
                # The connection is as dead as the command.
                self.over = True
                return
            # A flood may have no end.
            if more is False or time.monotonic() >= deadline:
                return
        time.sleep(max(0.0, deadline - time.monotonic()))

    def drain(self) -> None:
        """Read what the killed processes had printed and is still under way."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not self.over and time.monotonic() < deadline:
            try:
                if not self.read(1.0):
                    return
            except EngineUnavailable:
                return

    def drop_unread(self) -> None:
        """Leave out what Podman has to say of stdin that was not wanted."""
        if self._parts and self._parts[-1][0] == STDERR and _PODMAN_UNREAD.fullmatch(self._parts[-1][1]):
            self._parts.pop()

    def result(self) -> tuple[bytes, bytes, bytes]:
        out = b"".join(part for number, part in self._parts if number != STDERR)
        err = b"".join(part for number, part in self._parts if number == STDERR)
        return b"".join(part for _, part in self._parts), out, err


class _Input:
    """What goes to stdin, from memory or a file."""

    def __init__(self, source: bytes | str | IO[bytes] | None) -> None:
        data = source.encode() if isinstance(source, str) else source
        self.given = data is not None
        self._file: IO[bytes] = io.BytesIO(data) if isinstance(data, bytes) else data or io.BytesIO()
        self._rest = memoryview(b"")
        self._over = not self._fill()

    def over(self) -> bool:
        """Is all of it sent, or unwanted?"""
        return self._over

    def _fill(self) -> bool:
        self._rest = memoryview(self._file.read(INPUT_BYTES))
        return bool(self._rest)

    def feed(self, stream: AttachStream, seconds: float) -> bool:
        """Send a piece as soon as there is room. Returns whether there is something to read."""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ | selectors.EVENT_WRITE)
            ready = selector.select(0 if stream.buffered else seconds)
        events = ready[0][1] if ready else 0
        if events & selectors.EVENT_WRITE:
            try:
                self._rest = self._rest[stream.send_some(self._rest) :]
                self._over = not self._rest and not self._fill()
            except BrokenPipeError:
                # The command does not want it all.
                self._over = True
        return stream.buffered or bool(events & selectors.EVENT_READ)


def _follow(
    api: Any,
    exec_id: str,
    output: _Output,
    source: _Input,
    deadline: float | None,
    cancel: threading.Event | None,
) -> str | None:
    """Feed and read until the end: None; or why the command must be stopped, an empty text at the deadline."""
    heard = time.monotonic()
    if source.given and source.over():
        output.stream.end_input()
    while True:
        now = time.monotonic()
        if cancel is not None and cancel.is_set():
            return "cancelled"
        if deadline is not None and now >= deadline:
            return ""
        wait = min(SILENCE_SECONDS if cancel is None else CANCEL_SECONDS, (deadline or now + SILENCE_SECONDS) - now)
        if not source.over():
            readable = source.feed(output.stream, wait)
            if source.over():
                output.stream.end_input()
            if not readable:
                continue
        try:
            some = output.read(wait)
        except EngineUnavailable as error:
            if not source.given or not isinstance(error.__cause__, ConnectionResetError):
                raise
            # Podman ends the stream like this if the command left some of its stdin unread. Its status follows.
            return None
        if some is None:
            return None
        if output.flooded:
            return f"printed more than {output.limit:,} bytes"
        if some:
            heard = time.monotonic()
        elif time.monotonic() - heard >= SILENCE_SECONDS:
            # Raises if the engine hangs. A command may be silent for as long as it likes.
            with classification.translated("asking for a command"):
                api.exec_inspect(exec_id)
            heard = time.monotonic()


def _inspect(api: Any, exec_id: str) -> dict[str, Any]:
    with classification.translated("asking for a command's status"):
        return dict(api.exec_inspect(exec_id))


def _status(api: Any, exec_id: str) -> int:
    """The exit status, which the engine may know a moment after the stream's end."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        about = _inspect(api, exec_id)
        if not about["Running"] and about.get("ExitCode") is not None:
            return int(about["ExitCode"])
        time.sleep(0.02)
    raise EngineTimeout("the engine does not say how a command ended") from InfraError(exec_id)


def _not_started(error: CommandNotStarted, seconds: float) -> Executed:
    return Executed(error.exit_code, b"", b"", b"", seconds, start_error=error)


def _refused(api: Any, exec_id: str, error: InfraError) -> CommandNotStarted | None:
    """What Podman answers instead of a stream where it can't start a command, such as for a missing user."""
    answer = classification.answer_of(error)
    if answer is None or answer.status != 500:
        return None
    about = _inspect(api, exec_id)
    if about["Running"] or not about.get("ExitCode"):
        return None
    return _classified(answer.text, 126)


def _start_error(container: Any, exec_id: str, code: int, output: bytes, since: int) -> CommandNotStarted | None:
    """The reason if the command was never started; None if it was, whatever it printed."""
    api = container.client.api
    about = _inspect(api, exec_id)
    if about.get("Pid") or not output:
        return None
    message = output
    # Docker keeps the number of a process that ran. Podman forgets it, but has noted each command that it started.
    if "ContainerID" in about and _is_podman(api):
        errors = _PODMAN_ERROR.findall(output)
        if not errors or _podman_started(api, container.id, since):
            return None
        message = errors[0]
    return _classified(message.decode("utf-8", "replace").strip(), code if code != 125 else 126)


def _is_podman(api: Any) -> bool:
    with classification.translated("asking what engine this is"):
        return is_podman(api.version())


def _podman_started(api: Any, container_id: str, since: int) -> bool:
    """Has Podman started any command in the container since then (a Unix time in nanoseconds)?"""
    with classification.translated("asking for a container's events"):
        events = sdk.events(api, container_id, since // 10**9, int(time.time()) + 1)
    return any(event.get("Action") == "exec" and event.get("timeNano", 0) >= since for event in events)


def _classified(message: str, code: int) -> CommandNotStarted:
    kind = next((kind for pattern, kind in _KINDS if pattern.search(message)), CommandNotStarted)
    return kind(message, exit_code=code)
