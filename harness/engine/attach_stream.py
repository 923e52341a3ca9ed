"""Docker's multiplexed stream of an attached container or an exec, read with a time limit on everything."""

from __future__ import annotations

import contextlib
import io
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from taskgate.harness.base.errors import EngineUnavailable
from taskgate.harness.engine.sdk import response_of

STDOUT, STDERR = 1, 2
CHUNK_BYTES = 256 * 1024


class AttachStream:
    """Pieces of stdout and stderr from `sock`, which is what the docker SDK returns for an attached stream."""

    def __init__(self, sock: Any) -> None:
        self._raw = sock
        self._sock: socket.socket = getattr(sock, "_sock", sock)
        self._early = _read_ahead(sock, self._sock)
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    def read(self, seconds: float) -> list[tuple[int, bytes]] | None:
        """The pieces that have come, each with its stream; [] where none came in time; None at the stream's end.

        Raises EngineUnavailable where the connection breaks.
        """
        deadline = time.monotonic() + seconds
        while True:
            chunk, self._early = self._early, b""
            if not chunk:
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    chunk = self._sock.recv(CHUNK_BYTES)
                except TimeoutError:
                    return []
                except OSError as error:
                    raise EngineUnavailable(f"the connection to the container broke: {error}") from error
            if not chunk:
                return None
            # Part of a frame's header alone is no output yet.
            if parts := self._parts(chunk):
                return parts

    def send(self, data: bytes, seconds: float) -> None:
        """Send to stdin. Raises BrokenPipeError where nobody reads any more, else EngineUnavailable."""
        self._sock.settimeout(seconds)
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BrokenPipeError(str(error)) from error
        except OSError as error:
            raise EngineUnavailable(f"the connection to the container broke: {error}") from error

    def send_some(self, data: memoryview) -> int:
        """Send as much to stdin as there is room for now, and return how many bytes that was.

        Raises BrokenPipeError where nobody reads any more, else EngineUnavailable.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BrokenPipeError(str(error)) from error
        except OSError as error:
            raise EngineUnavailable(f"the connection to the container broke: {error}") from error

    def end_input(self) -> None:
        """Close stdin and go on reading."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    @property
    def buffered(self) -> bool:
        """Is there something to read that a selector does not see?"""
        return bool(self._early) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        # The SDK's response holds the connection too, and an engine that still writes to it can't remove the container.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._raw.close()

    def _parts(self, chunk: bytes) -> list[tuple[int, bytes]]:
        parts = []
        while chunk:
            if self._left:
                part, chunk = chunk[: self._left], chunk[self._left :]
                self._left -= len(part)
                parts.append((self._stream, part))
            else:
                need = 8 - len(self._head)
                self._head, chunk = self._head + chunk[:need], chunk[need:]
                if len(self._head) == 8:
                    self._stream, self._left = self._head[0], int.from_bytes(self._head[4:], "big")
                    self._head = b""
        return parts


def wait_readable(streams: Sequence[AttachStream], seconds: float) -> list[AttachStream]:
    """Those of `streams` that have something to read, or have ended, once one has or `seconds` are over."""
    if buffered := [stream for stream in streams if stream.buffered]:
        return buffered
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select(seconds)}
    return [stream for stream in streams if stream in ready]


def _read_ahead(sock: Any, connection: socket.socket) -> bytes:
    """The bytes of the stream that the HTTP client has read together with the response's header.

    The SDK returns the bare connection, and what lies in the buffer above it would be lost.
    """
    response = response_of(sock)
    file = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, socket.SocketIO):
        connection.settimeout(0)
        try:
            return file.read1(len(file.peek()))
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
    # Over ssh, paramiko's files have a buffer of their own.
    early = getattr(file, "_rbuffer", b"")
    return bytes(early) if isinstance(early, bytes | bytearray) else b""
