"""Cleanup: containers and volumes that killed runs left behind, and this run's own at its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.engine import reaper
from taskgate.harness.engine.client import Engine

# An engine that hangs must not hold up the run, nor its end: the next run cleans up as well.
LIMIT_SECONDS = 20.0


class Reaper:
    """Cleans up on the engines `hosts` (empty: the default engine), on all at once."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts: list[str | None] = [*hosts] or [None]

    def reap(self, session: str | None = None) -> None:
        """Remove what abandoned runs left and, if given, what belongs to `session`. Returns after LIMIT_SECONDS at the
        latest. Engines that can't be reached are passed over. Raises UsageError for a wrong address."""
        mistakes: list[UsageError] = []
        threads = [threading.Thread(target=_reap, args=(url, session, mistakes), daemon=True) for url in self._hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_SECONDS)
        if mistakes:
            raise mistakes[0]


def _reap(url: str | None, session: str | None, mistakes: list[UsageError]) -> None:
    try:
        with contextlib.suppress(InfraError):
            engine = Engine(url)
            try:
                reaper.reap(engine, session)
            finally:
                engine.close()
    except UsageError as error:
        mistakes.append(error)
