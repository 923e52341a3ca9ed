"""An engine with somebody in between: a proxy on a unix socket that is slow, or answers some requests itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# What it says to a request of this first line; None: the engine says it.
Answer = Callable[[bytes], bytes | None]


def reply(status: str, document: dict[str, Any]) -> bytes:
    """An HTTP answer that ends the connection."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def forbidding(engine: Path, at: Path, path: str) -> Iterator[str]:
    """The URL of a socket that is the engine's in all but requests for `path`."""
    refusal = reply("403 Forbidden", {"message": "forbidden by the owner"})
    with between(engine, at, lambda line: refusal if path.encode() in line else None) as url:
        yield url


@contextmanager
def between(engine: Path, at: Path, answer: Answer = lambda line: None, *, delay: float = 0.0) -> Iterator[str]:
    """The URL of a socket that is the engine's but for what `answer` says; `delay`: seconds before each answer."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(at))
    listener.listen(16)

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_talk, args=(taken, engine, answer, delay), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"unix://{at}"
    finally:
        listener.close()


def _talk(client: socket.socket, engine: Path, answer: Answer, delay: float) -> None:
    """Pass on what comes; each request's first piece holds its line."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as behind:
        behind.connect(str(engine))
        threading.Thread(target=pump, args=(behind, client, delay), daemon=True).start()
        while data := client.recv(1 << 16):
            if said := answer(data.partition(b"\r\n")[0]):
                client.sendall(said)
                break
            behind.sendall(data)
        behind.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, target: socket.socket, delay: float) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(delay)
            target.sendall(data)
    # The end of what one says is told to the other.
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
