"""A task's log: what its agent printed, as it came, without the secrets that it was given."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path

LIMIT_BYTES = 256 << 20
TAIL_BYTES = 4000


class LogFile:
    """Appends to `path`. Thread-safe. `secrets`: names and values; each value is replaced by its name, wherever a
    stream's pieces were cut. Of what is longer than `limit` only the beginning is kept."""

    def __init__(self, path: Path, secrets: Mapping[str, str], limit: int = LIMIT_BYTES) -> None:
        self.path = path
        self._secrets = sorted(
            ((value.encode(), f"[{name}]".encode()) for name, value in secrets.items()), key=lambda one: -len(one[0])
        )
        self._held = max((len(value) for value, _ in self._secrets), default=1) - 1
        self._left, self._limit = limit, limit
        self._rest: dict[int, bytes] = {}
        self._tail = b""
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def add(self, stream: int, data: bytes) -> None:
        """Write a piece of a stream. What may be the beginning of a secret waits for the next piece. Raises OSError."""
        with self._lock:
            text = self._clean(self._rest.pop(stream, b"") + data)
            keep = self._open_end(text)
            self._rest[stream] = text[len(text) - keep :] if keep else b""
            self._write(text[: len(text) - keep])

    def end(self, stream: int) -> None:
        """Nothing more will come of a stream. Raises OSError."""
        with self._lock:
            self._write(self._clean(self._rest.pop(stream, b"")))

    def note(self, text: str) -> None:
        """A line of taskgate's own. Raises OSError."""
        with self._lock:
            self._write(self._clean(f"[taskgate] {text}\n".encode("utf-8", "backslashreplace")))

    def tail(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it printed nothing"

    def clean(self, text: str) -> str:
        """The same text without secrets."""
        return self._clean(text.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            for stream in list(self._rest):
                self.end(stream)
        self._file.close()

    def _clean(self, data: bytes) -> bytes:
        for value, name in self._secrets:
            data = data.replace(value, name)
        return data

    def _open_end(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a secret."""
        for size in range(min(self._held, len(data)), 0, -1):
            end = data[-size:]
            if any(value.startswith(end) for value, _ in self._secrets):
                return size
        return 0

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
