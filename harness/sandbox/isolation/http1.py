"""HTTP/1 as far as a relay needs it, read strictly. Runs in containers: standard library only.

What two readers could understand differently is refused rather than repaired; h11 would be a better parser of answers
and a worse gate: it accepts folded headers, bare line feeds, and Content-Length beside Transfer-Encoding.
"""

import json
import re
from collections.abc import AsyncIterator

from taskgate.harness.sandbox.isolation.sockets import CHUNK, Connection

HEAD_BYTES = 64 * 1024
CHUNK_LINE_BYTES = 256
REASONS = {400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 502: "Bad Gateway"}
# No control characters: neither NUL nor a carriage return or line feed of its own.
REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
FRAMING = (b"content-length", b"transfer-encoding")
# They belong to one connection and are not passed on.
HOP_BY_HOP = (b"connection", b"proxy-connection", b"keep-alive", b"upgrade")

Field = tuple[bytes, bytes]


class Refused(Exception):
    """Answered with `status`; nothing is passed on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """A request's first lines. Raises Refused for what is none, or could be read in two ways."""

    def __init__(self, data: bytes) -> None:
        first, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
        match = REQUEST_LINE.fullmatch(first)
        if not match:
            raise Refused(400, "not an HTTP/1 request line")
        self.method, self.target, self.version = match.groups()
        self.fields: list[tuple[bytes, bytes, bytes]] = []
        for line in lines:
            field = FIELD.fullmatch(line)
            if not field:
                raise Refused(400, "malformed header line")
            self.fields.append((field[1].lower(), field[1], field[2].strip(b" \t")))
        self._examine()

    def all(self, name: bytes) -> list[bytes]:
        return [value for lower, _, value in self.fields if lower == name]

    def without(self, *names: bytes) -> list[Field]:
        return [(name, value) for lower, name, value in self.fields if lower not in names]

    def upgrades(self) -> bool:
        return b"upgrade" in _tokens(self.all(b"connection"))

    def is_websocket(self) -> bool:
        """Does it ask for a WebSocket? Raises Refused where it asks for any other protocol."""
        if not self.upgrades():
            return False
        protocols = [value.lower() for value in self.all(b"upgrade")]
        if (
            protocols != [b"websocket"]
            or self.method != b"GET"
            or self.version != b"HTTP/1.1"
            or len(self.all(b"sec-websocket-key")) != 1
            or self.all(b"transfer-encoding")
            or self.all(b"content-length") not in ([], [b"0"])
        ):
            raise Refused(400, "only a connection to a WebSocket can be upgraded")
        return True

    def _examine(self) -> None:
        lengths, codings = self.all(b"content-length"), self.all(b"transfer-encoding")
        if len(lengths) + len(codings) > 1 or any(not re.fullmatch(rb"\d{1,15}", length) for length in lengths):
            raise Refused(400, "the length of the request is ambiguous")
        if codings and (codings[0].lower() != b"chunked" or self.version != b"HTTP/1.1"):
            raise Refused(400, "unsupported Transfer-Encoding")
        if len(self.all(b"host")) > 1:
            raise Refused(400, "more than one Host header")
        # Servers that go through CGI's variables don't tell these apart.
        if any(b"_" in lower and lower.replace(b"_", b"-") in FRAMING for lower, _, _ in self.fields):
            raise Refused(400, "malformed header line")


def request(head: Head, target: bytes, fields: list[Field]) -> bytes:
    """The first lines of a request as they are passed on."""
    lines = [b"%s %s %s" % (head.method, target, head.version), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refusal(status: int, message: str) -> bytes:
    body = json.dumps({"error": message}).encode()
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def body(client: Connection, head: Head) -> AsyncIterator[bytes]:
    """The request's body, framed as it is passed on, and no byte more. Raises Refused, EOFError."""
    parts = _chunks(client) if head.all(b"transfer-encoding") else _counted(client, _length(head))
    async for part in parts:
        yield part


def status(head: bytes) -> int | None:
    """Of an answer's first lines; None where they can't be read."""
    match = STATUS_LINE.match(head)
    return int(match[1]) if match else None


def closing(head: bytes, moved: tuple[bytes, bytes] | None = None) -> bytes:
    """An answer's first lines, which say that the connection ends with it.

    `moved`: this host's authority and the prefix of every path, which redirects are given.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [first]
    for line in lines:
        name, colon, value = line.partition(b":")
        lower = name.strip().lower()
        if lower in (b"connection", b"proxy-connection", b"keep-alive"):
            continue
        if moved and colon and lower in (b"location", b"content-location"):
            line = name + b": " + _prefixed(value.strip(), *moved)
        kept.append(line)
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n"


def _prefixed(location: bytes, authority: bytes, prefix: bytes) -> bytes:
    here = b"http://" + authority
    if location.startswith(b"/") and not location.startswith(b"//"):
        return prefix + location
    if location == here or location.startswith(here + b"/"):
        return here + prefix + location[len(here) :]
    return location


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in values for token in value.split(b",")}


def _length(head: Head) -> int:
    lengths = head.all(b"content-length")
    return int(lengths[0]) if lengths else 0


async def _counted(client: Connection, length: int) -> AsyncIterator[bytes]:
    while length:
        data = await client.read(min(CHUNK, length))
        if not data:
            raise EOFError
        length -= len(data)
        yield data


async def _chunks(client: Connection) -> AsyncIterator[bytes]:
    """Extensions are refused; trailers are read and not passed on."""
    size = 1
    while size:
        match = re.fullmatch(rb"([0-9A-Fa-f]{1,8})\r\n", await _line(client, CHUNK_LINE_BYTES))
        if not match:
            raise Refused(400, "malformed chunk size")
        size = int(match[1], 16)
        if not size:
            break
        yield b"%x\r\n" % size
        async for data in _counted(client, size):
            yield data
        if await client.read_exactly(2) != b"\r\n":
            raise Refused(400, "malformed chunk")
        yield b"\r\n"
    left = HEAD_BYTES
    while (line := await _line(client, left)) != b"\r\n":
        left -= len(line)
        if not FIELD.fullmatch(line[:-2]):
            raise Refused(400, "malformed trailer")
    yield b"0\r\n\r\n"


async def _line(client: Connection, limit: int) -> bytes:
    line = await client.read_until(b"\r\n", limit)
    if line is None:
        if client.pending:
            raise Refused(400, "a line of the body is too long or incomplete")
        raise EOFError
    return line
