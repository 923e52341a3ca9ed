"""The progress line on a terminal: counts by verdict, and how long it will still take."""

from __future__ import annotations

import time
from typing import TextIO

from taskgate.harness.gate.tally import Tally

EVERY_SECONDS = 0.1


class Progress:
    """`total` images are expected. Writes one line over and over to `stream`, which must be a terminal."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream = total, stream
        self._begun = time.monotonic()
        self._written = 0.0
        self._width = 0

    def update(self, tally: Tally) -> None:
        now, done = time.monotonic(), len(tally.records)
        if now - self._written < EVERY_SECONDS and done < self._total:
            return
        self._written = now
        # What was known from before comes in an instant and tells nothing of the pace.
        judged = sum(not record.cached for record in tally.records.values())
        left = (now - self._begun) / judged * (self._total - done) if judged else 0.0
        counts = "  ".join(f"{verdict} {number}" for verdict, number in tally.counts.items() if number)
        self._write(f"[{done}/{self._total}]  {counts}  ETA {_clock(left)}")

    def finish(self) -> None:
        self._stream.write("\n")
        self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
