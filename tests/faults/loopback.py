"""Ports of this host on an engine's own loopback interface."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.authorization import pump

CLONE_NEWNET = 0x40000000


@contextmanager
def lent(pid: int, port: int) -> Iterator[None]:
    """`port` of this host's loopback interface is there in the network namespace of process `pid`, too."""
    listener = _listener(pid, port)

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
                behind = socket.create_connection(("127.0.0.1", port))
            except OSError:
                return
            for one, other in ((taken, behind), (behind, taken)):
                threading.Thread(target=pump, args=(one, other, 0), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listener.close()


def _listener(pid: int, port: int) -> socket.socket:
    """A socket that listens there, and may be used here."""
    made = []

    def make() -> None:
        # A namespace is a thread's own; this one ends with it.
        with Path(f"/proc/{pid}/ns/net").open() as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        made.append(socket.create_server(("127.0.0.1", port)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
