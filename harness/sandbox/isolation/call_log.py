"""`calls.jsonl`: a line for each call that an agent made of its endpoint."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskgate.harness.base.redaction import redacted

LIMIT_BYTES = 16 << 20


class CallLog:
    """Appends to `path`; beyond `limit` bytes, one line says that the rest is left out. `clean` takes secrets out.

    A line: `time` (UTC), `method`, `path` (without its query), `status`, `milliseconds`, `request_bytes`, `bytes` (of
    the answer); `refused` or `error` where the relay itself answered."""

    def __init__(self, path: Path, clean: Callable[[str], str], limit: int = LIMIT_BYTES) -> None:
        self._clean, self._left = clean, limit
        # Unwritable, as on a full disk: the task's other files say so.
        self._file = None
        with contextlib.suppress(OSError):
            self._file = path.open("a", encoding="utf-8")

    def add(self, call: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        shown = {name: redacted(self._clean(text)) if isinstance(text, str) else text for name, text in call.items()}
        line = json.dumps(shown) + "\n"
        self._left -= len(line)
        with contextlib.suppress(OSError):
            self._file.write(line if self._left >= 0 else json.dumps({"truncated": True}) + "\n")
            self._file.flush()
        if self._left < 0:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None
