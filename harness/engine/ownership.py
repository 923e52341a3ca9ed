"""Labels that tell the containers and volumes of a live run from those that a killed run left.

A process is identified by its host, its id and its start time, because ids are reused.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
import uuid
from functools import cache
from pathlib import Path

import psutil

LABEL = "taskgate"
# On an agent's container: its attempt's folder on this host.
ATTEMPT_LABEL = f"{LABEL}.attempt"
GRACE_SECONDS = 3600.0
# For a start time that can't be read; no process has it.
_UNREADABLE = "?"
_TICKS = os.sysconf("SC_CLK_TCK")


def new_session() -> str:
    """An id for one run."""
    return secrets.token_hex(8)


def labels(session: str, seconds: float) -> dict[str, str]:
    """Labels for a container that this process owns, and that counts as abandoned after `seconds` in any case."""
    pid = os.getpid()
    return {
        LABEL: "gate",
        f"{LABEL}.session": session,
        f"{LABEL}.host": _host(),
        f"{LABEL}.pid": str(pid),
        f"{LABEL}.started": str(started(pid)),
        f"{LABEL}.expires": str(int(time.time() + seconds)),
    }


def abandoned(owner: dict[str, str]) -> bool:
    """Is the process that set these labels gone?

    Nothing is known of a process on another host, or of one that this user may not see: what it owns is abandoned an
    hour after it expires, never before. The hour allows for clocks that differ. The same holds for a container whose
    attempt still has its folder: it may hold the files of an agent that has ended, which its run fetches at its next
    start.
    """
    if owner.get(LABEL) != "gate":
        return False
    if is_attempted(owner):
        return _is_expired(owner)
    pid = _number(owner.get(f"{LABEL}.pid", ""))
    if pid is not None and owner.get(f"{LABEL}.host") == _host():
        alive = is_alive(pid, owner.get(f"{LABEL}.started", ""))
        if alive is not None:
            return not alive
    return _is_expired(owner)


def is_attempted(owner: dict[str, str]) -> bool:
    """Is it an agent's container whose attempt still has its folder on this host?"""
    attempt = owner.get(ATTEMPT_LABEL)
    return bool(attempt and owner.get(f"{LABEL}.host") == _host() and Path(attempt).is_dir())


def _is_expired(owner: dict[str, str]) -> bool:
    expires = _number(owner.get(f"{LABEL}.expires", ""))
    return expires is not None and time.time() > expires + GRACE_SECONDS


def is_alive(pid: int, start: str) -> bool | None:
    """Does the process still run that had this id and `started` time? None where that can't be found out."""
    now = started(pid)
    return None if _UNREADABLE in (now, start) else now == start


def started(pid: int) -> str | None:
    """The time a process was started: equal for one process whenever it is asked for. None where there is none.

    On Linux in clock ticks since boot, elsewhere in hundredths of a second since 1970.
    """
    try:
        if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return str(_ticks_since_boot(pid) if psutil.LINUX else round(psutil.Process(pid).create_time() * 100))
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return _UNREADABLE if _is_hidden(pid) else None
    except (psutil.Error, OSError):
        return _UNREADABLE


def _ticks_since_boot(pid: int) -> int:
    """The kernel's own value. psutil adds the boot time, which changes whenever the clock is set or slewed."""
    while True:
        boot = psutil.boot_time()
        created = psutil.Process(pid).create_time()
        if boot == psutil.boot_time():
            return round((created - boot) * _TICKS)


def _is_hidden(pid: int) -> bool:
    """Is it a process of another user, hidden by a /proc with hidepid?"""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@cache
def _host() -> str:
    """This machine and PID namespace, within which a process id is valid."""
    # Without a boot id (macOS), the host's name and the address of a network card. Without a card, uuid invents an
    # address in each process, and containers are left to their expiry.
    machine = f"{socket.gethostname()} {uuid.getnode():012x}"
    with contextlib.suppress(OSError):
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{machine} {namespace}"


def _number(label: str) -> int | None:
    """None for what is not a reasonable number: anybody may set a label."""
    return int(label) if re.fullmatch(r"\d{1,15}", label, re.ASCII) else None
