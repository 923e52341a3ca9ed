"""Whose container is it? Labels that tell a live run's containers from what a killed one left behind."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from functools import cache
from pathlib import Path

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine.client import Engine

LABEL = "taskgate"


@cache
def _host() -> str:
    """This machine since its last boot, and this PID namespace: where a process id has a meaning."""
    boot = socket.gethostname()
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot} {namespace}"


def started(pid: int) -> str | None:
    """The kernel's start time of a process in clock ticks since boot; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def new_session() -> str:
    return secrets.token_hex(8)


def labels(session: str, seconds: float) -> dict[str, str]:
    """Labels for a container that this process owns and that is left over for certain after `seconds`."""
    pid = os.getpid()
    return {
        LABEL: "gate",
        f"{LABEL}.session": session,
        f"{LABEL}.host": _host(),
        f"{LABEL}.pid": str(pid),
        f"{LABEL}.started": str(started(pid)),
        f"{LABEL}.expires": str(int(time.time() + seconds)),
    }


def abandoned(of: dict[str, str]) -> bool:
    """Is the owner gone? On another host only the expiry can tell, with an hour for clocks that differ."""
    if of.get(LABEL) != "gate":
        return False
    pid = _number(of.get(f"{LABEL}.pid", ""))
    if of.get(f"{LABEL}.host") == _host() and pid is not None:
        return started(pid) != of.get(f"{LABEL}.started")
    expires = _number(of.get(f"{LABEL}.expires", ""))
    return expires is not None and time.time() > expires + 3600


def _number(label: str) -> int | None:
    """A label may be anybody's: Python reads no number of thousands of digits."""
    return int(label) if re.fullmatch(r"\d{1,15}", label, re.ASCII) else None


def _own(engine: Engine, container_id: str, of: dict[str, str]) -> bool:
    """Did we label it? What others start from an image that bears such labels itself has them as well.

    An image can't know the session of a container that is made from it.
    """
    inherited = engine.image_labels(container_id)
    return LABEL not in inherited or inherited.get(f"{LABEL}.session") != of.get(f"{LABEL}.session")


def reap(engine: Engine, session: str | None = None) -> int:
    """Remove what killed runs left, and all of `session`'s own; returns how many containers that were."""
    removed = 0
    for container_id, of in engine.containers(LABEL):
        if (abandoned(of) or (session is not None and of.get(f"{LABEL}.session") == session)) and _own(
            engine, container_id, of
        ):
            # Another run may be reaping the same one, or the engine may be slow: the next run tries again.
            with contextlib.suppress(InfraError):
                engine.remove(container_id)
                removed += 1
    # A volume goes after the containers that use it.
    with contextlib.suppress(InfraError):
        for name, of in engine.volumes(LABEL):
            if abandoned(of) or (session is not None and of.get(f"{LABEL}.session") == session):
                with contextlib.suppress(InfraError):
                    engine.remove_volume(name)
    return removed
