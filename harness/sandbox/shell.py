"""A shell inside a container that takes one command after another over the container's own stdin.

The container's command is `/bin/sh`, process 1 of its PID namespace, fed through one attached connection:
no exec, no file in the image, nothing needed from it but a POSIX shell (dash, bash and busybox are alike).

- Each command runs in a subshell. When it is over, `kill -9 -1` from process 1 ends everything it left, and the
  result is sent once nothing is left.
- Deadlines are kept by the host, as an image need not have `sleep`: SIGUSR1 to process 1 makes it kill all
  others. That is a builtin, so it works in a container that can fork no more.
- Results are framed by a nonce that is sent over stdin. It is in no file, argument or environment variable,
  so what an image prints can't pass for a result.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from taskgate.harness.engine.attach_stream import STDERR, AttachStream

KEEP_BYTES = 128 * 1024
FLOOD_BYTES = 64 * 1024 * 1024
GRACE_SECONDS = 10.0
# No result is longer: a nonce, a number and a status.
RESULT_BYTES = 64

# What is still there LEFT_ROUNDS looks after it was killed (a second or two) is reported as this status.
LEFT_STATUS = 999
LEFT_ROUNDS = 2000
# kill -9 -1 reaches every process but the caller and process 1, so it must never run outside of a container: this shell
# is process 1 there, or the child of the engine's init, which passes signals on. A killed
# process goes on for a moment, and one of another user would not be reached: hence the look, with builtins alone.
# BusyBox gives up a write that a dying child's SIGCHLD interrupts, hence the tries; a pipe takes the line whole or not.
BOOT = """\
[ $$ = 1 ] || [ "$PPID" = 1 ] || exit 97
tg_nonce={nonce}
trap 'tg_hit=1; kill -9 -1 2>/dev/null' USR1
tg_left() {{
  for tg_folder in /proc/[0-9]*; do
    case $tg_folder in /proc/1 | "/proc/$$") continue ;; esac
    tg_stat=
    while IFS= read -r tg_line || [ -n "$tg_line" ]; do tg_stat="$tg_stat $tg_line"; done <"$tg_folder/stat"
    set -- ${{tg_stat##*") "}}
    case $1 in "" | X) continue ;; Z) [ "${{18}}" -gt 1 ] || continue ;; esac
    return 0
  done 2>/dev/null
  return 1
}}
tg_end() {{
  tg_round=0
  while kill -9 -1 2>/dev/null; tg_left; do
    tg_round=$((tg_round + 1))
    [ "$tg_round" -lt {rounds} ] || return 1
  done
}}
tg() {{
  tg_id=$1; tg_script=$2; shift 2; tg_hit=
  ( trap - USR1; unset tg_nonce; eval "$tg_script" ) </dev/null 2>&1 &
  wait $!; tg_code=$?
  [ -z "$tg_hit" ] || {{ wait $!; tg_code=$?; }}
  tg_end || tg_code={left}
  for tg_try in 1 2 3 4 5; do printf '\\n%s %s %s\\n' "$tg_nonce" "$tg_id" "$tg_code" && break; done
}}
tg 0 :
"""


class ShellDied(Exception):
    """The stream ended: process 1 is gone, and the container with it. `output` is what it printed last."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


class ShellStuck(Exception):
    """The shell did not answer, not even after SIGUSR1, or could not end what a command left."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command in the container gave. `out` holds stdout and stderr, cut in the middle when long."""

    command: str
    code: int
    out: str
    seconds: float
    stopped: str | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Speaks to one container's shell over `stream`, which is attached to it.

    `stop` sends SIGUSR1 to process 1 of the container.
    """

    def __init__(self, stream: AttachStream, stop: Callable[[], None]) -> None:
        self._stream = stream
        self._stop = stop
        self._nonce = secrets.token_hex(16)
        self._mark = re.compile(rf"\n{self._nonce} (\d{{1,9}}) (\d{{1,3}})\n".encode())
        self._count = 0
        self._pending = b""
        self._slow_at, self._on_slow = math.inf, _nothing
        self.stderr = Excerpt()

    def call_when_slow(self, at: float, call: Callable[[], None]) -> None:
        """Call `call` once if an answer is still awaited at `at` (`time.monotonic`)."""
        self._slow_at, self._on_slow = at, call

    def boot(self) -> None:
        """Send the shell its first lines. Before the container is started, so that they are there when it is."""
        self._send(BOOT.format(nonce=self._nonce, left=LEFT_STATUS, rounds=LEFT_ROUNDS))

    def ready(self, seconds: float) -> None:
        """Wait for the shell's first sign of life. Raises ShellDied or ShellStuck."""
        deadline = time.monotonic() + seconds
        kept = Excerpt()
        if self._collect(0, kept, deadline) is None:
            raise ShellStuck(kept.text() + self.stderr.text())

    def run(
        self,
        script: str,
        *args: str,
        seconds: float,
        shown: str | None = None,
        more: Callable[[], float] | None = None,
    ) -> Result:
        """Run `script` with `args` as `$1…`; `shown` is how it appears in reports.

        After `seconds`, and as many as `more` grants when they have passed, its processes are killed and `stopped`
        says so. Raises ShellDied, ShellStuck, InfraError.
        """
        if any("\0" in text for text in (script, *args)):
            raise ValueError("a shell command can't hold a NUL byte")
        self._count += 1
        number, begun, kept = self._count, time.monotonic(), Excerpt()
        command = shown or (shlex.join(["sh", "-c", script.strip(), "sh", *args]) if args else script.strip())
        self._send(shlex.join(["tg", str(number), script, *args]) + "\n")
        code, stopped = self._collect(number, kept, begun + seconds), None
        while code is None and more and kept.size <= FLOOD_BYTES and (extra := more()):
            code = self._collect(number, kept, time.monotonic() + extra)
        if code is None:
            flood = kept.size > FLOOD_BYTES
            stopped = f"printed more than {FLOOD_BYTES >> 20} MiB" if flood else f"timed out after {seconds:g} s"
            self._stop()
            code = self._collect(number, kept, time.monotonic() + GRACE_SECONDS, flood=False)
            # The signal may come after the command's own end: let it spend itself on nothing.
            self._count += 1
            self._send(f"tg {self._count} :\n")
            if code is None or self._collect(self._count, Excerpt(), time.monotonic() + GRACE_SECONDS) is None:
                raise ShellStuck(kept.text())
        if code == LEFT_STATUS:
            raise ShellStuck(kept.text())
        return Result(command, code, kept.text(), time.monotonic() - begun, stopped)

    def close(self) -> None:
        self._stream.close()

    def _send(self, text: str) -> None:
        try:
            self._stream.send(text.encode("utf-8", "surrogateescape"), GRACE_SECONDS)
        except BrokenPipeError as error:
            raise ShellDied(self.stderr.text()) from error

    def _collect(self, number: int, kept: Excerpt, deadline: float, *, flood: bool = True) -> int | None:
        """Read until command `number` has ended: its exit status; None at the deadline or in a flood."""
        while True:
            begin = 0
            for match in self._mark.finditer(self._pending):
                kept.add(self._pending[begin : match.start()])
                begin = match.end()
                if int(match[1]) == number:
                    self._pending = self._pending[begin:]
                    return int(match[2])
            # The shell is the image's: what only begins like a result is output, however long it goes on.
            end = max(begin, len(self._pending) - RESULT_BYTES)
            kept.add(self._pending[begin:end])
            self._pending = self._pending[end:]
            if flood and kept.size > FLOOD_BYTES:
                return None
            now = time.monotonic()
            if now >= deadline:
                return None
            if now >= self._slow_at:
                self._slow_at = math.inf
                self._on_slow()
            self._receive(min(deadline, self._slow_at) - now)

    def _receive(self, seconds: float) -> None:
        """Take in what the stream holds; nothing if nothing came within `seconds`."""
        parts = self._stream.read(seconds)
        if parts is None:
            raise ShellDied((self._pending.decode("utf-8", "replace") + self.stderr.text()).strip())
        for stream, part in parts:
            if stream == STDERR:
                self.stderr.add(part)
            else:
                self._pending += part


def _nothing() -> None:
    """Nobody waits for what is slow."""


class Excerpt:
    """The beginning and the end of a stream of bytes, in bounded memory. `size` counts all of it."""

    def __init__(self, keep: int = KEEP_BYTES) -> None:
        self.size, self._keep, self._head, self._tail = 0, keep // 2, b"", b""

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if room := self._keep - len(self._head):
            self._head, data = self._head + data[:room], data[room:]
        if data:
            self._tail = (self._tail + data)[-self._keep :]

    def text(self) -> str:
        cut = self.size - len(self._head) - len(self._tail)
        gap = f"\n[… {cut} bytes left out …]\n".encode() if cut else b""
        return (self._head + gap + self._tail).decode("utf-8", "replace")
