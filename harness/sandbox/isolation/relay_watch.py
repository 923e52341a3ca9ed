"""Reads what a relay reports, for as long as it lives."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from taskgate.harness.base.errors import InfraError
from taskgate.harness.sandbox.isolation.call_log import CallLog
from taskgate.harness.sandbox.isolation.sidecar import Sidecar

TICK_SECONDS = 1.0
SYNC_SECONDS = 10.0
# An endpoint's own failures: credentials, limits, overload. Other statuses of 400 and more are about the request.
ENDPOINT_STATUSES = {401, 402, 403, 407, 408, 425, 429}


class RelayWatch:
    """A thread that keeps the counters and the log of calls up to date, and notices the relay's end."""

    def __init__(self, relay: Sidecar, log: CallLog | None) -> None:
        self._relay, self._log = relay, log
        self.calls = 0
        self.failure: InfraError | None = None
        self.endpoint_failure: str | None = None
        self._closing, self._synced = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def sync(self) -> None:
        """Wait until the relay has answered, so that all it reported before is taken in, or its end is noticed."""
        self._synced.clear()
        with contextlib.suppress(InfraError):
            self._relay.send({})
        # Where it can't be asked any more, the thread is about to notice its end.
        if not self.failure:
            self._synced.wait(SYNC_SECONDS)

    def close(self) -> None:
        self._closing.set()
        self._relay.hang_up()
        self._thread.join(SYNC_SECONDS)

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                for message in self._relay.poll(TICK_SECONDS):
                    self._take(message)
            except (InfraError, ValueError, OSError) as error:
                if not self._closing.is_set():
                    self.failure = error if isinstance(error, InfraError) else InfraError(f"the relay: {error}")
                self._synced.set()
                return

    def _take(self, message: dict[str, Any]) -> None:
        self.calls = max(self.calls, message.get("calls", 0))
        if call := message.get("call"):
            self._weigh(call)
            if self._log:
                self._log.add(call)
        if "asked" in message:
            self._synced.set()

    def _weigh(self, call: dict[str, Any]) -> None:
        status = call["status"]
        if "refused" in call or (status is None and "error" not in call):
            # The relay's own answer, or an agent that hung up before there was any.
            return
        if "error" in call:
            self.endpoint_failure = call["error"]
        elif status in ENDPOINT_STATUSES or status >= 500:
            self.endpoint_failure = f"the endpoint answered {call['method']} {call['path']} with status {status}"
        else:
            self.endpoint_failure = None
