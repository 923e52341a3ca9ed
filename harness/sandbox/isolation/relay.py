"""Runs in the relay's container, by the runtime's Python; standard library only.

The first line on stdin is the configuration in JSON; the end of stdin is the end of the relay. Two legs, each of them
a request a connection:

- in: HTTP on a TCP port, for those who know the key, to the unix socket `in` behind which the task's server is.
- out: HTTP on the unix socket `out`, to the one `endpoint` and nothing else, as long as there are calls left.
"""

import asyncio
import hmac
import json
import os
import re
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30
CONNECT_SECONDS = 30
CHUNK = 64 * 1024
KEY = b"x-taskgate-key"
Leg = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REASONS = {400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 502: "Bad Gateway"}


class Refused(Exception):
    """Answered with `status`, and nothing is passed on."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Head:
    """A request's first lines. Raises Refused for what is none."""

    def __init__(self, data: bytes) -> None:
        first, *lines = data.rstrip(b"\r\n").split(b"\r\n")
        found = re.fullmatch(rb"([A-Z]{1,20}) (\S+) (HTTP/1\.[01])", first)
        if not found:
            raise Refused(400, "that is no request of HTTP/1")
        self.method, self.target, self.version = found.groups()
        self.fields: list[tuple[bytes, bytes, bytes]] = []
        for line in lines:
            field = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\n]*)", line)
            if not field:
                raise Refused(400, "a header's line can't be read")
            self.fields.append((field[1].lower(), field[1], field[2].strip(b" \t")))

    def all(self, name: bytes) -> list[bytes]:
        return [value for lower, _, value in self.fields if lower == name]

    def without(self, *names: bytes) -> list[tuple[bytes, bytes]]:
        return [(name, value) for lower, name, value in self.fields if lower not in names]

    def upgrades(self) -> bool:
        return any(b"upgrade" in value.lower() for value in self.all(b"connection"))


def written(head: Head, target: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%s %s %s" % (head.method, target, head.version), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def read_head(reader: asyncio.StreamReader) -> Head:
    try:
        data = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
    except asyncio.LimitOverrunError:
        raise Refused(400, "the request's head is too long") from None
    return Head(data)


def refuse(writer: asyncio.StreamWriter, status: int, said: str) -> None:
    body = json.dumps({"error": said}).encode()
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def connect_in(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the socket itself: what is planted there in its stead is not followed."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise OSError("no socket")
        return await asyncio.open_unix_connection(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


class Relay:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.calls = self.refused = 0
        self.endpoint = urlsplit(config["endpoint"] or "")
        self.tls = None
        if self.endpoint.scheme == "https":
            self.tls = ssl.create_default_context(cadata=config["ca"])

    async def serve(self) -> None:
        if self.config["in"]:
            # Only the host's loopback interface leads here, and the engine's own networks: hence the key.
            here = "0.0.0.0"  # noqa: S104
            await asyncio.start_server(self.guarded(self.inward), here, self.config["port"], limit=HEAD_BYTES)
        if self.endpoint.hostname:
            await asyncio.start_unix_server(self.guarded(self.outward), self.config["out"], limit=HEAD_BYTES)
        tell({"ready": True})

    def guarded(self, leg: Leg) -> Leg:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await leg(reader, writer)
            except Refused as error:
                refuse(writer, error.status, str(error))
            except (TimeoutError, OSError, asyncio.IncompleteReadError, EOFError):
                pass
            finally:
                writer.close()

        return handle

    async def inward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        given = head.all(KEY)
        if len(given) != 1 or not hmac.compare_digest(given[0], self.config["key"].encode()):
            raise Refused(403, "the key is wrong")
        fields = (
            head.without(KEY) if head.upgrades() else [*head.without(KEY, b"connection"), (b"Connection", b"close")]
        )
        try:
            to_reader, to_writer = await asyncio.wait_for(connect_in(self.config["in"]), CONNECT_SECONDS)
        except (TimeoutError, OSError) as error:
            raise Refused(502, f"the bridge does not answer: {error}") from None
        there = asyncio.ensure_future(self.fed(reader, to_writer, written(head, head.target, fields)))
        try:
            first = await to_reader.read(CHUNK)
            if not first:
                raise Refused(502, "the server hung up")
            writer.write(first)
            await pipe(to_reader, writer)
        finally:
            there.cancel()
            to_writer.close()

    async def fed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        try:
            writer.write(first)
            await pipe(reader, writer)
        except OSError:
            pass

    async def outward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        target = self.target(head)
        body = self.body(reader, head)
        if self.config["calls"] is not None and self.calls >= self.config["calls"]:
            self.refused += 1
            tell({"calls": self.calls, "refused": self.refused})
            raise Refused(429, f"the budget of {self.config['calls']} calls is used up")
        self.calls += 1
        tell({"calls": self.calls, "refused": self.refused})
        added = {name.lower().encode() for name in self.config["headers"]}
        fields = [
            (b"Host", self.endpoint.netloc.rpartition("@")[2].encode()),
            *head.without(b"host", b"connection", b"proxy-connection", b"keep-alive", b"upgrade", *added),
            *((name.encode(), value.encode()) for name, value in self.config["headers"].items()),
            (b"Connection", b"close"),
        ]
        port = self.endpoint.port or (443 if self.tls else 80)
        try:
            to_reader, to_writer = await asyncio.wait_for(
                asyncio.open_connection(self.endpoint.hostname, port, ssl=self.tls), CONNECT_SECONDS
            )
        except (TimeoutError, OSError) as error:
            raise Refused(502, f"the endpoint does not answer: {error}") from None
        there = asyncio.ensure_future(self.sent(body, to_writer, written(head, target, fields)))
        try:
            while data := await to_reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
        finally:
            there.cancel()
            to_writer.close()

    async def sent(self, body: AsyncIterator[bytes], writer: asyncio.StreamWriter, first: bytes) -> None:
        try:
            writer.write(first)
            async for part in body:
                writer.write(part)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, Refused):
            writer.close()

    def target(self, head: Head) -> bytes:
        """Below the endpoint's own path, and never out of it."""
        if head.upgrades() or head.method == b"CONNECT" or not head.target.startswith(b"/"):
            raise Refused(403, "there is one endpoint, and no way to another")
        path = head.target.partition(b"?")[0].decode("latin-1")
        for _ in range(3):
            if "\\" in path or any(part in (".", "..") for part in path.split("/")):
                raise Refused(403, "a path that goes up")
            path = unquote(path)
        return self.endpoint.path.rstrip("/").encode() + head.target

    def body(self, reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
        """One request's body and no byte more, so that each call is counted."""
        lengths, coded = head.all(b"content-length"), head.all(b"transfer-encoding")
        if len(lengths) + len(coded) > 1 or any(not re.fullmatch(rb"\d{1,15}", length) for length in lengths):
            raise Refused(400, "the length of the request is not clear")
        if coded and coded[0].lower() != b"chunked":
            raise Refused(400, "an unknown transfer encoding")
        return chunks(reader) if coded else counted(reader, int(lengths[0]) if lengths else 0)


async def counted(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        data = await reader.read(min(CHUNK, length))
        if not data:
            raise EOFError
        length -= len(data)
        yield data


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    size = 1
    while size:
        line = await reader.readuntil(b"\r\n")
        found = re.fullmatch(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r\n", line)
        if not found:
            raise Refused(400, "a damaged chunk")
        size = int(found[1], 16)
        yield b"%x\r\n" % size
        async for data in counted(reader, size):
            yield data
        # After the last one there may be trailers, which are not passed on.
        if size and await reader.readexactly(2) != b"\r\n":
            raise Refused(400, "a damaged chunk")
        yield b"\r\n"


def tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def main() -> None:
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    os.umask(0o177)
    await Relay(json.loads(await stdin.readline())).serve()
    while await stdin.readline():
        pass


if __name__ == "__main__":
    asyncio.run(main())
