"""Docker's multiplexed stream of an attached container or an exec, read with a time limit on everything."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from taskgate.harness.base.errors import EngineUnavailable

STDOUT, STDERR = 1, 2
CHUNK_BYTES = 256 * 1024


class AttachStream:
    """Pieces of stdout and stderr from `sock`, which is what the docker SDK returns for an attached stream."""

    def __init__(self, sock: Any) -> None:
        self._raw = sock
        self._sock: socket.socket = getattr(sock, "_sock", sock)
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    def read(self, seconds: float) -> list[tuple[int, bytes]] | None:
        """The pieces that have come, each with its stream; [] where none came in time; None at the stream's end.

        Raises EngineUnavailable where the connection breaks.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._sock.recv(CHUNK_BYTES)
            except TimeoutError:
                return []
            except OSError as error:
                raise EngineUnavailable(f"the connection to the container broke: {error}") from error
            if not chunk:
                return None
            # A piece of a head alone is nothing yet.
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

    def end_input(self) -> None:
        """Close stdin and go on reading."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        # The SDK's answer holds the connection, too: an engine that goes on writing to it can't remove the container.
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
