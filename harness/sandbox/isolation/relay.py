"""Runs in the relay's container, by the runtime's Python; standard library only.

The first line on stdin is the configuration in JSON; each further one is answered by what was counted so far; the end
of stdin is the end of the relay. Two legs, each of them one request a connection:

- in: HTTP on a TCP port, for those who know the key, to the unix socket `in` behind which the task's server is.
- out: HTTP on the unix socket `out`, to the one `endpoint` and nothing else, as long as there are calls left.
"""

import asyncio
import contextlib
import hmac
import json
import os
import queue
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from taskgate.harness.sandbox.isolation import http1, sockets
from taskgate.harness.sandbox.isolation.http1 import HEAD_BYTES, Head, Refused
from taskgate.harness.sandbox.isolation.sockets import Connection

HEAD_SECONDS = 30
CONNECT_SECONDS = 30
# A client that was answered has this long to hang up, once its request is read.
CLOSE_SECONDS = 2.0
# And this long to finish a request of which nobody knows how long it is.
REFUSED_IDLE_SECONDS = 5.0
KEY = b"x-taskgate-key"
PATH_CHARS = 500
MESSAGES = 10_000
Leg = Callable[[Connection], Awaitable[None]]


async def read_head(client: Connection) -> Head:
    return Head(await asyncio.wait_for(_head_bytes(client), HEAD_SECONDS))


async def _head_bytes(client: Connection) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        line = await client.read_until(b"\n", HEAD_BYTES - len(data))
        if line is None:
            if data or client.pending:
                raise Refused(400, "the request's head is too long or incomplete")
            raise EOFError
        if not line.endswith(b"\r\n"):
            # At once: whoever sends such lines never sends the end that is waited for.
            raise Refused(400, "a line of the request's head ends without a carriage return")
        data += line
        if data == b"\r\n":
            raise Refused(400, "an empty line in place of a request")
    return data


async def drop(client: Connection) -> None:
    while await client.read():
        pass


class Exchange:
    """One request of `client`, passed on to `server`, and its answer. `sent` and `received` count bytes of bodies."""

    def __init__(
        self, client: Connection, server: Connection, *, failure: str, moved: tuple[bytes, bytes] | None = None
    ) -> None:
        self._client, self._server, self._failure, self._moved = client, server, failure, moved
        self._refusal: Refused | None = None
        self._body_read = False
        self.sent = self.received = 0
        self.status: int | None = None

    async def run(self, first: bytes, body: AsyncIterator[bytes]) -> None:
        """Raises Refused where no answer came; OSError where the client is gone."""
        sending = asyncio.ensure_future(self._send(first, body))
        try:
            await self._answer()
            self._client.end_writing()
            await self._finish(sending)
        finally:
            await sockets.stop(sending)
            self._server.close()

    async def run_websocket(self, first: bytes) -> None:
        """Nothing but the handshake is passed on until the server has agreed. Raises as `run`."""
        try:
            await self._server.write(first)
            head = await self._server.read_until(b"\r\n\r\n", HEAD_BYTES)
            if head and http1.status(head) == 101:
                await self._client.write(head)
                await sockets.join(self._client, self._server)
                return
            watching = asyncio.ensure_future(self._watch())
            try:
                await self._answer(head)
                self._client.end_writing()
                await sockets.linger(self._client, watching, CLOSE_SECONDS)
            finally:
                await sockets.stop(watching)
        finally:
            self._server.close()

    async def _send(self, first: bytes, body: AsyncIterator[bytes]) -> None:
        try:
            taken = await self._pass(first)
            async for part in body:
                self.sent += len(part)
                # What the server no longer takes is read all the same: its answer may be there already.
                taken = taken and await self._pass(part)
            self._body_read = True
            await self._watch()
        except Refused as error:
            self._refusal = error
            self._server.abort()
        except EOFError:
            self._server.abort()

    async def _watch(self) -> None:
        """Until the client hangs up; what it sends after its one request is not passed on."""
        await drop(self._client)
        self._server.end_writing()

    async def _pass(self, data: bytes) -> bool:
        try:
            await self._server.write(data)
        except OSError:
            return False
        return True

    async def _answer(self, head: bytes | None = None) -> None:
        answered = False
        while head := head or await self._server.read_until(b"\r\n\r\n", HEAD_BYTES):
            answered, self.status = True, http1.status(head)
            interim = self.status is not None and 100 <= self.status < 200
            readable = self.status is not None and not interim
            await self._client.write(http1.closing(head, self._moved) if readable else head)
            if not interim:
                break
            head = None
        # Without a head that can be read, the answer is passed on as it is.
        while data := await self._server.read():
            answered = True
            self.received += len(data)
            await self._client.write(data)
        if not answered:
            raise self._refusal or Refused(502, self._failure)

    async def _finish(self, sending: "asyncio.Future[None]") -> None:
        while not self._body_read and not sending.done():
            if time.monotonic() - self._client.active > sockets.IDLE_SECONDS:
                return
            await asyncio.wait({sending}, timeout=0.05)
        await sockets.linger(self._client, sending, CLOSE_SECONDS)


class Messages:
    """To stdout, a JSON document a line. Whoever reads slowly must not hold up the relay: what is too much is lost."""

    def __init__(self) -> None:
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(MESSAGES)
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(message)

    def _write(self) -> None:
        while True:
            print(json.dumps(self._queue.get()), flush=True)


class Call:
    """One line of the log of calls."""

    def __init__(self, head: Head) -> None:
        self._begun = time.monotonic()
        path = head.target.partition(b"?")[0].decode("latin-1")
        self.entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": head.method.decode(),
            "path": path[:PATH_CHARS],
            "status": None,
        }

    def ended(self, exchange: Exchange | None) -> dict[str, Any]:
        self.entry["milliseconds"] = round((time.monotonic() - self._begun) * 1000)
        self.entry["request_bytes"] = exchange.sent if exchange else 0
        self.entry["bytes"] = exchange.received if exchange else 0
        if exchange and exchange.status and self.entry["status"] is None:
            self.entry["status"] = exchange.status
        return self.entry


class Relay:
    def __init__(self, config: dict[str, Any], messages: Messages) -> None:
        self.config, self.messages = config, messages
        self.calls = self.refused = 0
        self.key: bytes = config["key"].encode()
        self.endpoint = urlsplit(config["endpoint"] or "")
        self.tls = None
        if self.endpoint.scheme == "https":
            self.tls = ssl.create_default_context(cadata=config["ca"])
        self._serving: list[asyncio.Future[None]] = []

    def start(self) -> None:
        if self.config["in"]:
            # Only the host's loopback interface leads here, and the engine's own networks: hence the key.
            here = "0.0.0.0"  # noqa: S104
            listener = sockets.listen_tcp(here, self.config["port"])
            self._serving.append(asyncio.ensure_future(sockets.serve(listener, self.guarded(self.inward))))
        if self.endpoint.hostname:
            listener = sockets.listen_unix(self.config["out"])
            self._serving.append(asyncio.ensure_future(sockets.serve(listener, self.guarded(self.outward))))
        self.messages.put({"ready": True})

    def counts(self) -> dict[str, int]:
        return {"calls": self.calls, "refused": self.refused}

    def guarded(self, leg: Leg) -> Leg:
        async def handle(client: Connection) -> None:
            try:
                await leg(client)
            except Refused as error:
                await self.refuse(client, error)
            except (TimeoutError, OSError, EOFError):
                pass

        return handle

    async def refuse(self, client: Connection, error: Refused) -> None:
        try:
            await client.write(http1.refusal(error.status, str(error)))
        except OSError:
            return
        client.end_writing()
        dropping = asyncio.ensure_future(drop(client))
        await sockets.linger(client, dropping, REFUSED_IDLE_SECONDS)
        await sockets.stop(dropping)

    # The way in.

    async def inward(self, client: Connection) -> None:
        head = await read_head(client)
        target, moved = self.admitted(head)
        websocket = head.is_websocket()
        fields = [field for field in head.without(KEY, *http1.HOP_BY_HOP) if self.key not in field[1]]
        if websocket:
            fields += [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
        else:
            fields.append((b"Connection", b"close"))
        try:
            server = await asyncio.wait_for(sockets.connect_unix(self.config["in"]), CONNECT_SECONDS)
        except (TimeoutError, OSError) as error:
            raise Refused(502, f"the forwarder does not answer: {error}") from None
        exchange = Exchange(client, server, failure="the server hung up", moved=moved)
        first = http1.request(head, target, fields)
        if websocket:
            await exchange.run_websocket(first)
        else:
            await exchange.run(first, http1.body(client, head))

    def admitted(self, head: Head) -> tuple[bytes, tuple[bytes, bytes] | None]:
        """The target without the key, and how redirects get it back. Raises Refused."""
        given = head.all(KEY)
        if given and not (len(given) == 1 and hmac.compare_digest(given[0], self.key)):
            raise Refused(403, "the key is wrong")
        first, rest = self._first_part(head.target)
        if hmac.compare_digest(first, self.key):
            hosts = head.all(b"host")
            return rest, (hosts[0] if hosts else b"", b"/" + self.key)
        if not given:
            raise Refused(403, "the key is missing or wrong: a header or the first part of the path must hold it")
        if not head.target.startswith(b"/") and head.target != b"*":
            raise Refused(400, "the target of a request is a path here")
        return head.target, None

    @staticmethod
    def _first_part(target: bytes) -> tuple[bytes, bytes]:
        """`/a/b?c` is `a` and `/b?c`."""
        path, question, query = target.partition(b"?")
        if not path.startswith(b"/"):
            return b"", target
        first, _, rest = path[1:].partition(b"/")
        return first, b"/" + rest + question + query

    # The way out.

    async def outward(self, client: Connection) -> None:
        head = await read_head(client)
        call, exchange = Call(head), None
        try:
            target = self.target(head)
            self.count()
            server = await self.connected()
            exchange = Exchange(client, server, failure="the endpoint hung up without an answer")
            await exchange.run(http1.request(head, target, self.fields(head)), http1.body(client, head))
        except Refused as error:
            # 502: the endpoint's doing; anything else is this relay's own answer.
            call.entry.update({"status": error.status, "error" if error.status == 502 else "refused": str(error)})
            raise
        finally:
            self.messages.put({"call": call.ended(exchange), **self.counts()})

    def count(self) -> None:
        """Raises Refused where no calls are left."""
        if self.config["calls"] is not None and self.calls >= self.config["calls"]:
            self.refused += 1
            raise Refused(429, f"the budget of {self.config['calls']} calls is used up")
        self.calls += 1
        self.messages.put(self.counts())

    async def connected(self) -> Connection:
        port = self.endpoint.port or (443 if self.tls else 80)
        host = self.endpoint.hostname
        assert host
        try:
            return await asyncio.wait_for(sockets.connect_tcp(host, port, self.tls), CONNECT_SECONDS)
        except TimeoutError:
            raise Refused(502, f"the endpoint does not answer within {CONNECT_SECONDS} s") from None
        except OSError as error:
            raise Refused(502, f"the endpoint does not answer: {error}") from None

    def fields(self, head: Head) -> list[http1.Field]:
        added = {name.lower().encode() for name in self.config["headers"]}
        return [
            (b"Host", self.endpoint.netloc.rpartition("@")[2].encode()),
            *head.without(b"host", *http1.HOP_BY_HOP, *added),
            *((name.encode(), value.encode()) for name, value in self.config["headers"].items()),
            (b"Connection", b"close"),
        ]

    def target(self, head: Head) -> bytes:
        """Below the endpoint's own path, and never out of it. Raises Refused."""
        if head.upgrades() or head.method == b"CONNECT" or not head.target.startswith(b"/"):
            raise Refused(403, "only the endpoint can be reached, by plain HTTP requests for a path")
        path = head.target.partition(b"?")[0].decode("latin-1")
        for _ in range(3):
            if "\\" in path or any(part in (".", "..") for part in path.split("/")):
                raise Refused(403, "the path leads out of the endpoint's")
            path = unquote(path)
        return self.endpoint.path.rstrip("/").encode() + head.target


async def main() -> None:
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    os.umask(0o177)
    messages = Messages()
    relay = Relay(json.loads(await stdin.readline()), messages)
    relay.start()
    while await stdin.readline():
        messages.put({"asked": True, **relay.counts()})
    # The process ends here, not after connections that are still open.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
