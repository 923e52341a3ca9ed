"""An engine whose owner forbids something: a proxy on a unix socket that answers 403 to some paths."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BODY = b'{"message": "forbidden by the owner"}'
REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + f"Content-Length: {len(BODY)}\r\n\r\n".encode()
    + BODY
)


@contextmanager
def forbidding(engine: Path, at: Path, path: str) -> Iterator[str]:
    """The URL of a socket that is the engine's in all but requests for `path`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(at))
    listener.listen(16)

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_talk, args=(taken, engine, path.encode()), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"unix://{at}"
    finally:
        listener.close()


def _talk(client: socket.socket, engine: Path, path: bytes) -> None:
    """Pass on what comes; each request's first piece holds its line."""
    behind = socket.socket(socket.AF_UNIX)
    behind.connect(str(engine))
    threading.Thread(target=_pump, args=(behind, client), daemon=True).start()
    with suppress(OSError):
        while data := client.recv(1 << 16):
            if path in data.partition(b"\r\n")[0]:
                client.sendall(REFUSAL)
                break
            behind.sendall(data)
    for one in (behind, client):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
