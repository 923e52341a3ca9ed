"""Is a container cut off? The proof: canaries on the host that it does not reach, though other containers do."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from taskgate.harness.base.errors import InfraError, IsolationError
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.sidecar import Sidecar
from taskgate.harness.sandbox.isolation.tools import Tools

METADATA = ("169.254.169.254", 80)
RESOLVERS = (("127.0.0.11", 53),)
PROBE_SECONDS = 1.0
RUN_SECONDS = 7 * 86400.0
# For so long, what the control container reached need not be tried again.
CONTROL_SECONDS = 60.0

Evidence = dict[str, Any]


class Prover:
    """Proves containers of one engine. Thread-safe; the canary starts with the first proof."""

    def __init__(self, connect: Callable[[], Engine], tools: Callable[[], Tools], session: str) -> None:
        self._connect, self._make_tools, self._session = connect, tools, session
        self._engine: Engine | None = None
        self._control_lock, self._canary_lock, self._tools_lock = threading.Lock(), threading.Lock(), threading.Lock()
        self._tools: Tools | None = None
        self._canary: Sidecar | None = None
        self._at: dict[str, Any] = {}
        self._seen: deque[dict[str, Any]] = deque(maxlen=10_000)
        self._control: Evidence = {}
        self._controlled = -CONTROL_SECONDS

    @property
    def tools(self) -> Tools:
        """What the helpers run by, on the engine. Raises InfraError."""
        with self._tools_lock:
            self._tools = self._tools or self._make_tools()
            return self._tools

    def prove(self, engine: Engine, container: str) -> Evidence:
        """What a probe saw inside a running container. Raises IsolationError where it is not cut off, or nothing is
        proven."""
        control = self._controls()
        seen = self._probe(engine, f"container:{container}")
        evidence = {"when": utc_now(), "inside": seen, "control": control}
        if wrong := problems(seen):
            raise IsolationError(f"the container is not cut off: {'; '.join(wrong)[:1000]}", evidence=evidence)
        return evidence

    def close(self) -> None:
        """Remove the canary. Raises InfraError."""
        with self._canary_lock:
            canary, self._canary = self._canary, None
            if canary:
                canary.close()
        if self._engine:
            self._engine.close()

    def _controls(self) -> Evidence:
        """What a container on an ordinary network reached. Raises IsolationError: the proof is void."""
        with self._control_lock:
            # A client of its own: callers in other threads have theirs.
            engine = self._engine = self._engine or self._connect()
            if self._canary is None:
                self._begin(engine)
            elif time.monotonic() - self._controlled < CONTROL_SECONDS:
                return self._control
            control = self._probe(engine, "bridge")
            reached = [any(result in GOOD for result in control[kind].values()) for kind in ("tcp", "udp")]
            if not all(reached) or {visit["by"] for visit in control["canary"]} != {"tcp", "udp"}:
                raise IsolationError(
                    "the proof is void: not even a container on an ordinary bridge reached the canaries on the host",
                    evidence={"control": control},
                )
            self._control, self._controlled = control, time.monotonic()
            return control

    def _begin(self, engine: Engine) -> None:
        canary = Sidecar(engine, self.tools, "canary.py", session=self._session, network="host", seconds=RUN_SECONDS)
        try:
            self._at = canary.receive()
        except BaseException:
            canary.close()
            raise
        self._canary = canary

    def _probe(self, engine: Engine, network: str) -> Evidence:
        token = secrets.token_hex(8)
        tcp = [(address, self._at["tcp"]) for address in self._at["addresses"]]
        udp = [(address, self._at["udp"]) for address in self._at["addresses"]]
        config = {"tcp": [*tcp, METADATA], "udp": [*udp, *RESOLVERS], "token": token, "seconds": PROBE_SECONDS}
        probe = Sidecar(
            engine, self.tools, "probe.py", session=self._session, seconds=600, network=network, config=config
        )
        try:
            seen = probe.receive()
        finally:
            probe.close()
        return {**seen, "canary": self._visits(token)}

    def _visits(self, token: str) -> list[dict[str, Any]]:
        """The canary's visits by a probe. That the canary answers shows that it was listening."""
        with self._canary_lock:
            canary = self._canary
            if canary is None:
                raise IsolationError("the canary has ended")
            try:
                canary.send({})
                while "asked" not in (message := canary.receive()):
                    self._seen.append(message)
            except BaseException:
                # A canary that does not answer proves nothing; the next proof starts another.
                self._canary = None
                with contextlib.suppress(InfraError):
                    canary.close()
                raise
            # Sent as it is by TCP, as a part of a name in a DNS query.
            marks = (token, token.encode().hex())
            visits = [visit for visit in self._seen if any(mark in visit["data"] for mark in marks)]
            return [{"by": visit["by"], "from": visit["from"]} for visit in visits]


GOOD = ("connected", "answered")


def problems(seen: Evidence) -> list[str]:
    """What a probe saw that a container without a network does not have."""
    reasons = []
    if seen["interfaces"] != ["lo"]:
        reasons.append(f"it has the network interfaces {', '.join(seen['interfaces'])}, not lo alone")
    for kind in ("routes", "routes6", "addresses6"):
        reasons += [f"{kind}: {' '.join(row)}" for row in seen[kind]]
    for kind in ("tcp", "udp"):
        reasons += [f"{kind} to {where}: {result}" for where, result in seen[kind].items() if result in GOOD]
    reasons += [f"it reached a canary on the host by {visit['by']} from {visit['from']}" for visit in seen["canary"]]
    return reasons
