"""Is a container cut off? Proven by canaries on the host that hear nothing of it, though they hear others."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from taskgate.harness.base.errors import InfraError, IsolationError
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.sidecar import Sidecar
from taskgate.harness.sandbox.isolation.tools import Tools

METADATA = ("169.254.169.254", 80)
RESOLVERS = (("127.0.0.11", 53),)
PROBE_SECONDS = 1.0
RUN_SECONDS = 7 * 86400.0
# How long what the control has shown holds.
CONTROL_SECONDS = 60.0

Evidence = dict[str, Any]


class Prover:
    """Proves containers of one engine. Thread-safe; the canary starts with the first proof."""

    def __init__(self, connect: Callable[[], Engine], tools: Callable[[], Tools], session: str) -> None:
        self._connect, self._make_tools, self._session = connect, tools, session
        self._engine: Engine | None = None
        self._controlling, self._hearing, self._making = threading.Lock(), threading.Lock(), threading.Lock()
        self._tools: Tools | None = None
        self._canary: Sidecar | None = None
        self._at: dict[str, Any] = {}
        self._seen: deque[dict[str, Any]] = deque(maxlen=10_000)
        self._control: Evidence = {}
        self._controlled = -CONTROL_SECONDS

    @property
    def tools(self) -> Tools:
        """What the helpers run by, on the engine. Raises InfraError."""
        with self._making:
            self._tools = self._tools or self._make_tools()
            return self._tools

    def prove(self, engine: Engine, container: str) -> Evidence:
        """What was seen from inside of a running container. Raises IsolationError where it is not cut off, or where
        nothing is proven."""
        control = self._controls()
        seen = self._probe(engine, f"container:{container}")
        evidence = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "inside": seen, "control": control}
        if wrong := problems(seen):
            raise IsolationError(f"the container is not cut off: {'; '.join(wrong)[:1000]}", evidence=evidence)
        return evidence

    def close(self) -> None:
        """Remove the canary. Raises InfraError."""
        with self._hearing:
            canary, self._canary = self._canary, None
            if canary:
                canary.close()
        if self._engine:
            self._engine.close()

    def _controls(self) -> Evidence:
        """What a container on an ordinary network reached. Raises IsolationError: the proof is void."""
        with self._controlling:
            # A client of its own: those who ask may be many, and each has one for itself.
            engine = self._engine = self._engine or self._connect()
            if self._canary is None:
                self._begin(engine)
            elif time.monotonic() - self._controlled < CONTROL_SECONDS:
                return self._control
            control = self._probe(engine, "bridge")
            reached = [any(said in GOOD for said in control[kind].values()) for kind in ("tcp", "udp")]
            if not all(reached) or {one["by"] for one in control["canary"]} != {"tcp", "udp"}:
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
        """What the canary saw of a probe. That it answers shows that it was there to see."""
        with self._hearing:
            canary = self._canary
            if canary is None:
                raise IsolationError("the canary has ended")
            try:
                canary.send({})
                while "asked" not in (said := canary.receive()):
                    self._seen.append(said)
            except BaseException:
                # A canary that can't be heard proves nothing; the next proof gets another one.
                self._canary = None
                with contextlib.suppress(InfraError):
                    canary.close()
                raise
            # By TCP it is said as it is, in a question of DNS as a part of a name.
            marks = (token, token.encode().hex())
            mine = [one for one in self._seen if any(mark in one["said"] for mark in marks)]
            return [{"by": one["by"], "from": one["from"]} for one in mine]


GOOD = ("connected", "answered")


def problems(seen: Evidence) -> list[str]:
    """What in a probe's words speaks against a container that is cut off."""
    found = []
    if seen["interfaces"] != ["lo"]:
        found.append(f"it has the network interfaces {', '.join(seen['interfaces'])}, not lo alone")
    for kind in ("routes", "routes6", "addresses6"):
        found += [f"{kind}: {' '.join(row)}" for row in seen[kind]]
    for kind in ("tcp", "udp"):
        found += [f"{kind} to {where}: {said}" for where, said in seen[kind].items() if said in GOOD]
    found += [f"a canary on the host was visited by {one['by']} from {one['from']}" for one in seen["canary"]]
    return found
