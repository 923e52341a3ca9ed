"""The forwarder: started in the task's container, and again where something there ended it."""

from __future__ import annotations

import contextlib
import json
import time

from taskgate.harness.base.errors import InfraError, IsolationError
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.isolation import scripts
from taskgate.harness.sandbox.isolation.tools import Tools

SOCKETS = "/.taskgate-relay"
ENDPOINT_PORT = 8399
START_SECONDS = 60.0
# An agent that is root can end it (`pkill python3`); one that does so for ever has cut itself off.
RESTARTS = 10


class ForwarderLink:
    """Joins `port` in the container, and the endpoint's port there, to the relay's sockets."""

    def __init__(self, engine: Engine, tools: Tools, *, port: int | None, serves_endpoint: bool) -> None:
        self._engine, self._python = engine, tools.python
        self._config = {
            "port": port,
            "in": f"{SOCKETS}/in",
            "out": f"{SOCKETS}/out",
            "endpoint_port": ENDPOINT_PORT if serves_endpoint else None,
        }
        self._container: Container | None = None
        self._frames: AttachStream | None = None
        self._restarts = 0

    def start(self, container: Container) -> None:
        """Returns once it listens. Raises InfraError."""
        self._container = container
        argv = [self._python, "-I", "-c", scripts.program("forwarder.py"), json.dumps(self._config)]
        self._frames = self._engine.exec(container.id, argv, "the forwarder", user="0", workdir="/").stream
        output, deadline = b"", time.monotonic() + START_SECONDS
        while b"ready\n" not in output:
            parts = self._frames.read(max(deadline - time.monotonic(), 0.001))
            if not parts:
                raise IsolationError(f"the forwarder did not start: {output.decode('utf-8', 'replace')[-2000:]}")
            output += b"".join(part for _, part in parts)

    def check(self) -> None:
        """Start it again if it has ended while the container runs. Raises EngineUnavailable."""
        if self._frames is None or self._container is None or self._frames.read(0.001) is not None:
            return
        self.close()
        if self._restarts >= RESTARTS or not self._engine.state(self._container.id).get("Running"):
            return
        self._restarts += 1
        # In vain where the container ends meanwhile, or where its root user has spoilt the folder of the sockets.
        with contextlib.suppress(InfraError):
            self.start(self._container)

    def close(self) -> None:
        if self._frames:
            with contextlib.suppress(OSError):
                self._frames.close()
        self._frames = None
