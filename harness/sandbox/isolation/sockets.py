"""Sockets for the relay and the forwarder. Runs in containers: standard library only.

asyncio's streams close a whole connection when a write fails, along with an answer that nobody has read yet. A server
that answers a large request early and hangs up makes writes fail, so here reading and writing fail independently.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable

CHUNK = 64 * 1024
BACKLOG = 1024
# Connections that one listener handles at a time; further ones wait in its backlog.
CONNECTIONS = 512
# How long whoever was answered early may go on sending: in all, and without a byte.
LINGER_SECONDS = 3600.0
IDLE_SECONDS = 30.0


class Connection:
    """A TCP or unix connection. Its socket is closed by `close` alone, whatever fails before."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._ended = False
        self.active = time.monotonic()

    async def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes; b"" at the end, which a reset is as well."""
        if not self._buffer:
            await self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def read_exactly(self, size: int) -> bytes:
        """Raises EOFError where fewer bytes come."""
        while len(self._buffer) < size:
            if not await self._fill():
                raise EOFError
        return await self.read(size)

    async def read_until(self, separator: bytes, limit: int) -> bytes | None:
        """All up to and with `separator`; None, and nothing is taken, where it isn't in `limit` bytes or ever."""
        start = 0
        while (at := self._buffer.find(separator, start)) < 0:
            start = max(0, len(self._buffer) - len(separator) + 1)
            if len(self._buffer) > limit or not await self._fill():
                return None
        return await self.read(at + len(separator)) if at <= limit else None

    @property
    def pending(self) -> bool:
        """Are there bytes that have come and were not read?"""
        return bool(self._buffer)

    async def write(self, data: bytes) -> None:
        """Raises OSError; what can be read can still be read then."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def end_writing(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Whoever reads or writes on either end sees the end."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    async def _fill(self) -> bool:
        if self._ended:
            return False
        try:
            data = await self._receive()
        except OSError:
            data = b""
        self._ended = not data
        self._buffer += data
        self.active = time.monotonic()
        return not self._ended

    async def _receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, CHUNK)


class TlsConnection(Connection):
    """A client's TLS on top of a connected socket; `handshake` comes first."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._sending = asyncio.Lock()

    async def handshake(self) -> None:
        """Raises OSError (ssl.SSLError is one)."""
        while True:
            try:
                self._tls.do_handshake()
                return await self._flush()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the connection ended during the TLS handshake") from None

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    def end_writing(self) -> None:
        # TLS has no half-closed connections: it ends as a whole.
        pass

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                with contextlib.suppress(OSError):
                    # An answer to a renewal of keys. Whether it arrives has no bearing on what there is to read.
                    await self._flush()
                if not await self._feed():
                    return b""

    async def _feed(self) -> bool:
        data = await super()._receive()
        self._incoming.write(data) if data else self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._outgoing.read():
                await super().write(data)


async def connect_tcp(host: str, port: int, context: ssl.SSLContext | None = None) -> Connection:
    """To the first address of `host` that answers; with TLS where there is a `context`. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, proto, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            _without_delay(sock)
            if context is None:
                return Connection(sock)
            tls = TlsConnection(sock, context, host)
            await tls.handshake()
            return tls
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


async def connect_unix(path: str) -> Connection:
    """To the socket itself: a link that was planted in its place is not followed. Raises OSError."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise OSError("it is no socket")
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, f"/proc/self/fd/{handle}")
        return Connection(sock)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(handle)


def listen_tcp(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def listen_unix(path: str) -> socket.socket:
    """In place of a socket that an earlier process left there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 (not worth an import in every container)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


async def serve(listener: socket.socket, handle: Callable[[Connection], Awaitable[None]]) -> None:
    """Hand each connection to `handle`, and close it after that. Never returns."""
    loop, room = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTIONS)
    tasks: set[asyncio.Task[None]] = set()

    async def handled(connection: Connection) -> None:
        try:
            await handle(connection)
        finally:
            connection.close()
            room.release()

    while True:
        await room.acquire()
        try:
            sock, _ = await loop.sock_accept(listener)
        except OSError:
            # Out of file descriptors, or a connection that is gone already.
            room.release()
            await asyncio.sleep(0.05)
            continue
        if sock.family != socket.AF_UNIX:
            _without_delay(sock)
        task = asyncio.ensure_future(handled(Connection(sock)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def copy(source: Connection, target: Connection) -> None:
    """Until the source's end. What the target no longer takes is read and dropped: whoever sends must come to the end
    before they read the answer."""
    taken = True
    while data := await source.read():
        if taken:
            try:
                await target.write(data)
            except OSError:
                taken = False
    target.end_writing()


async def join(client: Connection, server: Connection) -> None:
    """Pass bytes both ways. The server has the last word: after its end the client may only finish what it sends."""
    sending = asyncio.ensure_future(copy(client, server))
    try:
        while data := await server.read():
            await client.write(data)
        client.end_writing()
        await linger(client, sending)
    except OSError:
        # The client is gone.
        pass
    finally:
        await stop(sending)
        server.close()


async def linger(client: Connection, sending: "asyncio.Future[None]", idle: float = IDLE_SECONDS) -> None:
    """Let a client that was answered finish. Closing with bytes unread would reset the connection, and an answer that
    is still on its way would be lost."""
    begun = time.monotonic()
    while not sending.done():
        now = time.monotonic()
        if now - max(begun, client.active) > idle or now - begun > LINGER_SECONDS:
            return
        await asyncio.wait({sending}, timeout=0.5)


async def stop(task: "asyncio.Future[None]") -> None:
    """Cancel it and wait for its end: what it waited for must not be closed before."""
    task.cancel()
    await asyncio.wait({task})


def _without_delay(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
