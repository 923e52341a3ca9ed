"""A task's log that two programs write to: each line says whose it is."""

from __future__ import annotations

from taskgate.harness.sandbox.log_file import LogFile

TAIL_LINES, TAIL_CHARS = 5, 1500
LINE_BYTES = 64 * 1024


class LabelledLog:
    """One program's share of `log`: whole lines, with `[label] ` before each; `tail` has the last ones of its own.

    Not thread-safe; the log itself is."""

    def __init__(self, log: LogFile, label: str) -> None:
        self._log, self._label, self.path = log, f"[{label}] ".encode(), log.path
        self._rest: dict[int, bytes] = {}
        self._last: list[bytes] = []

    def add(self, stream: int, data: bytes) -> None:
        """Write a piece of a stream. Raises OSError."""
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        if len(rest) > LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._rest[stream] = rest
        self._write(stream, lines)

    def end(self) -> None:
        """Nothing more will come. Raises OSError."""
        for stream, rest in self._rest.items():
            self._write(stream, [rest] if rest else [])
            self._log.end(self._named(stream))
        self._rest = {}

    def tail(self) -> str:
        """Its last lines, without secrets."""
        text = b"\n".join(self._last).decode("utf-8", "replace")
        return self._log.clean(text)[-TAIL_CHARS:] or "it printed nothing"

    def _write(self, stream: int, lines: list[bytes]) -> None:
        self._last = [*self._last, *(line.strip() for line in lines if line.strip())][-TAIL_LINES:]
        if lines:
            self._log.add(self._named(stream), b"".join(self._label + line + b"\n" for line in lines))

    def _named(self, stream: int) -> int:
        # Streams of two programs must not complete each other's secrets.
        return stream + 256 * self._label[1]
