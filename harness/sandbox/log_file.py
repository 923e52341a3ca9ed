"""A task's log: what its agent printed, as it came, without the secrets that it was given."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path

LIMIT_BYTES = 256 << 20
TAIL_BYTES = 4000
MAX_HELD_BYTES = 1 << 20


class Mask:
    """Replaces secrets in a stream of bytes by their names, however the stream is cut into pieces.

    At each place the longest secret counts; secrets that overlap are replaced together.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        by_value = {value.encode(): f"[{name}]".encode() for name, value in secrets.items() if value}
        self._names = by_value
        self._values = sorted(by_value, key=len, reverse=True)
        self._held = max(map(len, self._values), default=1) - 1
        # A lookahead sees secrets that overlap.
        self._pattern = re.compile(b"(?=(" + b"|".join(map(re.escape, self._values)) + b"))") if by_value else None

    def all(self, data: bytes) -> bytes:
        """The whole of a text, masked."""
        return self.feed(data, last=True)[0]

    def feed(self, data: bytes, *, last: bool = False) -> tuple[bytes, bytes]:
        """What can be written by now, masked, and the rest, which the next piece must be added to."""
        if self._pattern is None:
            return data, b""
        # A stream of nothing but overlapping secrets must not be held for ever.
        end = len(data) if last or len(data) > MAX_HELD_BYTES else self._open_end(data)
        clean, at = [], 0
        for start, stop, names in self._groups(data):
            if stop > end:
                # More of it may come.
                end = min(start, end)
                break
            clean += [data[at:start], *names]
            at = stop
        clean.append(data[at:end])
        return b"".join(clean), data[max(at, end) :]

    def _groups(self, data: bytes) -> list[tuple[int, int, list[bytes]]]:
        """Start, end and names of each run of secrets that touch or overlap."""
        groups: list[tuple[int, int, list[bytes]]] = []
        if self._pattern is None or not any(value in data for value in self._values):
            return groups
        for match in self._pattern.finditer(data):
            start, stop, name = match.start(), match.end(1), self._names[match[1]]
            if groups and start < groups[-1][1]:
                first, end, names = groups[-1]
                groups[-1] = (first, max(end, stop), [*names, name] if stop > end and name != names[-1] else names)
            else:
                groups.append((start, stop, [name]))
        return groups

    def _open_end(self, data: bytes) -> int:
        """From where on the data may be the beginning of a secret."""
        for start in range(max(0, len(data) - self._held), len(data)):
            rest = data[start:]
            if any(len(value) > len(rest) and value.startswith(rest) for value in self._values):
                return start
        return len(data)


class LogFile:
    """Appends to `path`. Thread-safe. `secrets`: names and values; each value is replaced by its name. Of what is
    longer than `limit` only the beginning is kept. Raises OSError where the file can't be made."""

    def __init__(self, path: Path, secrets: Mapping[str, str], limit: int = LIMIT_BYTES) -> None:
        self.path = path
        self._mask = Mask(secrets)
        self._left, self._limit = limit, limit
        self._rest: dict[int, bytes] = {}
        self._tail = b""
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def add(self, stream: int, data: bytes) -> None:
        """Write a piece of a stream. What may be the beginning of a secret waits for the next piece. Raises OSError."""
        with self._lock:
            clean, self._rest[stream] = self._mask.feed(self._rest.pop(stream, b"") + data)
            self._write(clean)

    def end(self, stream: int) -> None:
        """Nothing more will come of a stream. Raises OSError."""
        with self._lock:
            self._write(self._mask.all(self._rest.pop(stream, b"")))

    def note(self, text: str) -> None:
        """A line of taskgate's own. Raises OSError."""
        with self._lock:
            self._write(self._mask.all(f"[taskgate] {text}\n".encode("utf-8", "backslashreplace")))

    def tail(self) -> str:
        """The last line that is not blank."""
        lines = [line.strip() for line in self.end_text().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it printed nothing"

    def end_text(self) -> str:
        """The last 4,000 bytes."""
        return self._tail.decode("utf-8", "replace")

    def clean(self, text: str) -> str:
        """The same text without secrets."""
        return self._mask.all(text.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            for stream in list(self._rest):
                self.end(stream)
        self._file.close()

    def _write(self, data: bytes) -> None:
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self._left <= 0 or not data:
            return
        piece = memoryview(data)[: self._left]
        self._left -= len(piece)
        while piece:
            piece = piece[self._file.write(piece) :]
        if self._left <= 0:
            self._file.write(f"\n[taskgate] more than {self._limit} bytes; the rest is left out\n".encode())
