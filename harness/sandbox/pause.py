"""Pause containers: one network namespace for all the images that a worker checks, one after another.

Creating a network namespace is two thirds of the cost of starting a container. A pause container is on the
task's network and does nothing; a task's container then joins its namespace. Nothing of an image ever runs in a pause
container, and no two images are in one at the same time: the one before is gone, and its processes with it.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from dataclasses import dataclass

from taskgate.harness.base.errors import InfraError, StartFailed
from taskgate.harness.engine import ownership
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.platforms import architecture_of
from taskgate.harness.engine.tar_stream import of_files
from taskgate.harness.sandbox.container import reject_special_files
from taskgate.harness.tasks.task import Task

# The label that names the network which the container is on.
LABEL = f"{ownership.LABEL}.pause"
# A reaper on another host knows only when a container expires.
RENEW_SECONDS = 3600.0
EXPIRES_SECONDS = 24 * 3600.0

# ELF machine number and code. It reads its stdin to the end, then exits: so the container ends with the process that is
# attached to it. Assembled from pause_amd64.S and pause_arm64.S, which lie beside this file.
CODE = {
    "amd64": (62, "31c0 31ff 488d742480 ba40000000 0f05 85c0 7fec b83c000000 31ff 0f05"),
    "arm64": (183, "e80780d2 000080d2 e10302d1 020880d2 010000d4 1f0000f1 4cffff54 a80b80d2 000080d2 010000d4"),
}


@dataclass(slots=True)
class _Held:
    container: str
    stream: AttachStream
    since: float


class Pauses:
    """The pause containers of one worker on one engine, one for each network. Close it."""

    def __init__(self, engine: Engine, session: str) -> None:
        self._engine, self._session = engine, session
        self._held: dict[str, _Held] = {}
        self._refused: set[str] = set()

    def network(self, task: Task, image: Image) -> str:
        """The network mode for a task's container: a pause container's, or the task's own if there can be none."""
        if not self._shares(task):
            return task.network
        held = self._held.get(task.network)
        if held and time.monotonic() - held.since > RENEW_SECONDS:
            self._drop(task.network)
            held = None
        try:
            held = held or self._hold(task.network, image)
        except StartFailed:
            # This image can't be used for one; the next one may.
            return task.network
        except InfraError:
            # Images can be judged without pause containers.
            self._refused.add(task.network)
            return task.network
        return f"container:{held.container}"

    def leave(self, network: str) -> None:
        """A container may still be in its namespace: the next one gets another."""
        if network in self._held:
            self._drop(network)

    def refuse(self, network: str) -> None:
        """A container could not be started in it: from now on, each one on that network gets its own namespace."""
        self._refused.add(network)
        self.leave(network)

    def close(self) -> None:
        for network in list(self._held):
            self._drop(network)

    def _shares(self, task: Task) -> bool:
        """Can it share one? A server agent needs its port, which a closed connection of another may hold."""
        # A container in another's network namespace has no host names of its own.
        if task.services or task.network in ("none", "host") or ":" in task.network or task.network in self._refused:
            return False
        return not (task.agent and task.agent.server) and _architecture(self._engine) in CODE

    def _hold(self, network: str, image: Image) -> _Held:
        """Start one. Any image will do that an engine can start: only our own program runs in it.

        Raises StartFailed or InfraError.
        """
        engine, name = self._engine, f".taskgate-pause-{secrets.token_hex(8)}"
        created = engine.create_container(
            image.digest,
            [f"/{name}"],
            labels={**ownership.labels(self._session, EXPIRES_SECONDS), LABEL: network},
            doing="creating a pause container",
            user="65534:65534",
            stdin=True,
            healthcheck=not image.healthcheck,
            logged=False,
            network_mode=network,
            mem_limit=32 << 20,
            pids_limit=16,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        try:
            reject_special_files(engine, created)
            engine.put_tar(created, "/", of_files({name: program(_architecture(engine))}, 0o755))
            stream = engine.attach(created, output=False)
            engine.start_container(created, doing="starting a pause container")
        except BaseException:
            with contextlib.suppress(InfraError):
                self._engine.remove(created)
            raise
        held = self._held[network] = _Held(created, stream, time.monotonic())
        return held

    def _drop(self, network: str) -> None:
        held = self._held.pop(network)
        with contextlib.suppress(OSError):
            held.stream.close()
        # The session's end, or the next run, removes what is left.
        with contextlib.suppress(InfraError):
            self._engine.remove(held.container)


def program(architecture: str) -> bytes:
    """A static ELF program that reads its stdin to the end. Raises KeyError for an architecture without one."""
    machine, code = CODE[architecture]
    text, at, head = bytes.fromhex(code), 0x400000, 64 + 56
    size = head + len(text)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, at + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, at, at, size, size, 0x1000)
    return elf + load + text


def _architecture(engine: Engine) -> str:
    return architecture_of(engine.platform)
