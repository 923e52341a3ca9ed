"""Cleanup: containers and volumes that killed runs left behind, and this run's own at its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.engine import reaper
from taskgate.harness.engine.client import Engine

# An engine that hangs must not delay the start or the end of a run: the next run cleans up as well.
LIMIT_SECONDS = 20.0


class Reaper:
    """Cleans up on the engines `hosts` (empty: the default engine), on all at once."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts: list[str | None] = [*hosts] or [None]
        self._unavailable: set[str | None] = set()

    def reap_all(self) -> None:
        """Remove what abandoned runs left. Returns after LIMIT_SECONDS at the latest; engines that can't be reached
        are skipped. Raises UsageError for an invalid address."""
        self._reap(self._hosts, None)

    def reap_session(self, session: str, *, judged: bool) -> None:
        """The same, and what belongs to `session`. `judged` False: nothing was judged in it, so that an engine that
        could not be reached at the start holds nothing of it."""
        self._reap([url for url in self._hosts if judged or url not in self._unavailable], session)

    def _reap(self, hosts: Sequence[str | None], session: str | None) -> None:
        mistakes: list[UsageError] = []
        threads = [threading.Thread(target=self._reap_one, args=(url, session, mistakes), daemon=True) for url in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_SECONDS)
        if mistakes:
            raise mistakes[0]

    def _reap_one(self, url: str | None, session: str | None, mistakes: list[UsageError]) -> None:
        try:
            engine = Engine(url)
        except UsageError as error:
            mistakes.append(error)
            return
        except InfraError:
            self._unavailable.add(url)
            return
        with contextlib.suppress(InfraError):
            try:
                reaper.reap(engine, session)
            finally:
                engine.close()
