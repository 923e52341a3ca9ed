"""The relay and the forwarder: strict HTTP, the key in a path, WebSockets, early answers, the log of calls."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import websockets.exceptions
from websockets.sync.client import connect

from taskgate.harness.base.errors import IsolationError
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.call_log import CallLog
from taskgate.harness.sandbox.isolation.endpoint import Endpoint, is_loopback
from tests.sandbox import cleanroom
from tests.sandbox.cleanroom import ECHO, PACKAGES, UPLOADS, Inside, inside, tools, until_served, upstream

__all__ = ["inside", "tools", "upstream"]
Make = Callable[..., Inside]

# Answers each whole request with what it read, and keeps the connection open, whatever it is asked.
RAW = r"""
import socket, threading
def whole(data):
    return data.endswith(b"\r\n\r\n") if data.startswith(b"GET") else data.endswith((b"hello", b"0\r\n\r\n"))
def serve(connection):
    connection.settimeout(1)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
            if whole(data):
                body = repr(data).encode()
                head = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)
                data = b""
    except TimeoutError:
        pass
    connection.close()
listener = socket.create_server(("127.0.0.1", 8000), backlog=100)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def exchange(room: Any, data: bytes) -> bytes:
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", int(room.url.rpartition(":")[2])), 20) as sock:
        sock.sendall(data)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


AMBIGUOUS = {
    "bare CR in a header": b"GET / HTTP/1.1\r\n%K\r\nX: a\rY: b\r\n\r\n",
    "bare CR in the target": b"GET /a\rb HTTP/1.1\r\n%K\r\n\r\n",
    "bare CR before the line's end": b"GET / HTTP/1.1\r\n%K\r\nX: a\r\r\n\r\n",
    "bare LF in a header": b"GET / HTTP/1.1\r\n%K\r\nX: a\nContent-Length: 5\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\n%K\n\n",
    "folded header": b"GET / HTTP/1.1\r\n%K\r\nX: a\r\n b\r\n\r\n",
    "folded first header": b"GET / HTTP/1.1\r\n X: a\r\n%K\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\n%K\r\nContent-Length : 5\r\n\r\nhello",
    "tab before the colon": b"GET / HTTP/1.1\r\n%K\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n%K\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\n%K\r\nX\0: a\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n%K\r\n\r\n",
    "form feed in the request line": b"GET\x0c/ HTTP/1.1\r\n%K\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: +5\r\n\r\nhello",
    "a hexadecimal length": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: 0x5\r\n\r\nhello",
    "an empty length": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: \r\n\r\n",
    "length and coding": b"POST / HTTP/1.1\r\n%K\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a list of codings": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an underscore for a hyphen": b"POST / HTTP/1.1\r\n%K\r\nContent_Length: 5\r\n\r\nhello",
    "two hosts": b"GET / HTTP/1.1\r\n%K\r\nHost: a\r\nHost: b\r\n\r\n",
    "an absolute target": b"GET http://elsewhere/ HTTP/1.1\r\n%K\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version with a sign": b"GET / HTTP/+1.1\r\n%K\r\n\r\n",
    "h2c": b"GET / HTTP/1.1\r\n%K\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n",
    "an upgrade to nothing": b"GET / HTTP/1.1\r\n%K\r\nConnection: Upgrade\r\n\r\n",
    "an upgrade to two": b"GET / HTTP/1.1\r\n%K\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n"
    b"Sec-WebSocket-Key: eA==\r\n\r\n",
    "a WebSocket by POST": b"POST / HTTP/1.1\r\n%K\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: eA==\r\nContent-Length: 5\r\n\r\nhello",
    "chunk extension": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "chunk size with a space": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "chunk size with a sign": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size with a prefix": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk ended by LF": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
    "bad trailer": b"POST / HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
}  # fmt: skip


def test_what_could_be_read_in_two_ways_is_refused(inside: Make) -> None:
    cell = inside(port=8000)
    room = cell.room
    cell.python(RAW, detach=True)
    until_served(room)
    key = f"X-Taskgate-Key: {room.key}".encode()
    for name, data in AMBIGUOUS.items():
        answer = exchange(room, data.replace(b"%K", key))
        assert answer.startswith(b"HTTP/1.1 400 "), f"{name}: {answer[:200]!r}"


def test_one_request_a_connection(inside: Make) -> None:
    """What follows a request would need no key: it is not passed on, whatever the server makes of `Connection`."""
    cell = inside(port=8000)
    room = cell.room
    cell.python(RAW, detach=True)
    until_served(room)
    key = f"X-Taskgate-Key: {room.key}".encode()
    websocket = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    for first in (
        b"GET /first HTTP/1.1\r\n%K\r\n\r\n",
        b"GET /first HTTP/1.1\r\n%K\r\nConnection: keep-alive\r\n\r\n",
        b"POST /first HTTP/1.1\r\n%K\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /first HTTP/1.1\r\n%K\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        # This server does not agree to the upgrade.
        b"GET /first HTTP/1.1\r\n%K\r\n" + websocket + b"\r\n",
    ):
        answer = exchange(room, first.replace(b"%K", key) + b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"/first" in answer, answer
        assert b"second" not in answer and answer.count(b"HTTP/1.1 200") == 1, answer
        assert b"\r\nConnection: close\r\n" in answer and b"\r\nConnection: keep-alive" not in answer


# The key in the path.

LOCATIONS = r"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        where = {"/relative": "/there?a=b", "/absolute": "http://" + self.headers["Host"] + "/there",
                 "/beside": "there", "/elsewhere": "https://example.org/x", "/double": "//example.org/x"}
        path = self.path.partition("?")[0]
        body = ("%s|%s" % (self.path, sorted(self.headers.items()))).encode()
        self.send_response(307 if path in where else 200)
        if path in where:
            self.send_header("Location", where[path])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def test_the_key_in_the_path(inside: Make) -> None:
    cell = inside(port=8000)
    room = cell.room
    cell.python(LOCATIONS, detach=True)
    until_served(room)
    assert room.key_url == f"{room.url}/{room.key}"
    with httpx.Client(base_url=room.key_url, trust_env=False, follow_redirects=True) as client:
        for path, seen in (("/a/b?c=d", "/a/b?c=d|"), ("", "/|"), ("/", "/|"), ("?x", "/?x|")):
            answer = client.get(room.key_url + path, headers={"Referer": room.key_url + "/page"})
            assert answer.text.startswith(seen), answer.text
            assert room.key not in answer.text, "the key is not the agent's to know"
        # Redirects lead back through the key, and only where they stay on this server.
        for path in ("/relative", "/absolute", "/beside"):
            assert client.get(path).text.startswith("/there"), path
        for path, target in (("/elsewhere", "https://example.org/x"), ("/double", "//example.org/x")):
            assert client.get(path, follow_redirects=False).headers["Location"] == target
    # Both forms at once, and either alone; one that is wrong spoils the other.
    assert requests.get(f"{room.key_url}/x", headers=room.headers, timeout=10).text.startswith("/x|")
    assert requests.get(f"{room.url}/x", headers=room.headers, timeout=10).text.startswith("/x|")
    for url, headers in (
        (f"{room.url}/x", {}),
        (f"{room.url}/{room.key[:-1]}/x", {}),
        (f"{room.url}/{room.key}x", {}),
        (f"{room.url}//{room.key}/x", {}),
        (f"{room.url}/x/{room.key}/", {}),
        (f"{room.key_url}/x", {"X-Taskgate-Key": "wrong"}),
    ):
        assert requests.get(url, headers=headers, timeout=10).status_code == 403, url


SOCKET_ECHO = f"""
import sys; sys.path.insert(0, {PACKAGES!r})
from websockets.sync.server import serve
def handler(socket):
    for message in socket:
        socket.send(socket.request.path + "|" + message if isinstance(message, str) else message)
    print("over", flush=True)
with serve(handler, "127.0.0.1", 8000, max_size=None) as server:
    server.serve_forever()
"""


def test_websockets(inside: Make) -> None:
    """By either form of the key, unmodified, with large messages, silence, and an end that both sides see."""
    cell = inside(port=8000)
    cell.bring("websockets")
    cell.python(SOCKET_ECHO, detach=True)
    room = cell.room
    until_served(room)
    url = room.key_url.replace("http://", "ws://")
    with connect(f"{url}/sockets/events?a=b", max_size=None, proxy=None) as client:
        client.send("hello")
        assert client.recv(10) == "/sockets/events?a=b|hello"
        client.send(b"x" * 20_000_000)
        assert client.recv(60) == b"x" * 20_000_000
        time.sleep(2)
        client.send("still there")
        assert "still there" in client.recv(10)
    with connect(f"{room.url.replace('http://', 'ws://')}/x", additional_headers=room.headers, proxy=None) as client:
        client.send("by header")
        assert client.recv(10) == "/x|by header"
    with pytest.raises(websockets.exceptions.InvalidStatus):
        connect(f"{room.url.replace('http://', 'ws://')}/x", proxy=None)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(f"{url}/{number}", proxy=None)) for number in range(50)]
        for number, client in enumerate(clients):
            client.send("many")
            assert client.recv(10) == f"/{number}|many"


# Answers that come before the request is read.


@pytest.mark.slow
@pytest.mark.parametrize("kind", cleanroom.CLIENTS)
def test_forty_early_answers_from_the_server(inside: Make, kind: str) -> None:
    cell = inside(port=8000)
    cell.python(cleanroom.EARLY + "main('127.0.0.1', 8000)", detach=True)
    until_served(cell.room)
    namespace: dict[str, Any] = {}
    exec(UPLOADS, namespace)
    assert namespace["upload"](kind, cell.room.key_url + "/missing", {}, 40) == (40, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", cleanroom.CLIENTS)
def test_forty_early_answers_from_the_endpoint(inside: Make, kind: str) -> None:
    ports: list[int] = []
    namespace: dict[str, Any] = {}
    exec(cleanroom.EARLY, namespace)
    threading.Thread(target=namespace["main"], args=("0.0.0.0", 0, ports.append), daemon=True).start()
    while not ports:
        time.sleep(0.01)
    cell = inside(endpoint=Endpoint(f"http://host.docker.internal:{ports[0]}"), calls=40)
    cell.bring(*cleanroom.CLIENT_PACKAGES)
    source = f"import sys; sys.path.insert(0, {PACKAGES!r})\n{UPLOADS}\n"
    url = cell.room.environment["TASKGATE_ENDPOINT"]
    assert cell.python(source + f"print(upload({kind!r}, '{url}/missing', {{}}, 40))") == "(40, [])\n"
    # The relay's own refusals arrive as well.
    refused = cell.python(source + f"print(upload({kind!r}, '{url}/missing', {{}}, 5, 429, None))")
    assert refused == "(5, [])\n"


# Reads on while it answers, as a server must that wants its whole answer to arrive.
LARGE = """
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        left = int(self.headers["Content-Length"])
        def drop():
            for _ in range(left // 100_000):
                self.rfile.read(100_000)
        dropping = threading.Thread(target=drop)
        self.send_response(404)
        self.send_header("Content-Length", "20000000")
        self.end_headers()
        dropping.start()
        self.wfile.write(b"n" * 20_000_000)
        dropping.join()
    def do_GET(self):
        self.send_error(404)
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def test_a_large_answer_to_a_client_that_is_still_sending(inside: Make) -> None:
    cell = inside(port=8000)
    cell.python(LARGE, detach=True)
    until_served(cell.room)
    namespace: dict[str, Any] = {}
    exec(UPLOADS, namespace)
    assert namespace["upload"]("http.client", cell.room.key_url + "/", {}, 3, 404, 20_000_000) == (3, [])


STREAM = """
import http.server, pathlib, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/left":
            self.wfile.write(b"left" if pathlib.Path("/tmp/left").exists() else b"no")
            return
        try:
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pathlib.Path("/tmp/left").touch()
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def test_a_client_that_leaves_is_noticed(inside: Make) -> None:
    """A server that streams to nobody must see the end, or it would go on for ever."""
    cell = inside(port=8000)
    cell.python(STREAM, detach=True)
    until_served(cell.room, "/left")
    with requests.get(cell.room.key_url + "/stream", stream=True, timeout=10) as answer:
        assert next(answer.iter_content(1)) == b"x"
    deadline = time.monotonic() + 20
    while requests.get(cell.room.key_url + "/left", timeout=10).text != "left":
        assert time.monotonic() < deadline
        time.sleep(0.2)


# The relay's reports.


def test_the_log_of_calls(inside: Make, upstream: tuple[int, list[Any]], tmp_path: Path) -> None:
    port, _ = upstream
    log = CallLog(tmp_path / "calls.jsonl", lambda text: text.replace("hidden-secret", "[TOKEN]"))
    cell = inside(endpoint=Endpoint(f"http://host.docker.internal:{port}/v1"), calls=3, log=log)
    cell.python("""
import urllib.request, urllib.error
for path, data in (("/chat?key=in-the-query", b"question"), ("/hidden-secret/%7f", None), ("/a/../b", None),
                   ("/status/503", b""), ("/more", None)):
    try:
        urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8399" + path, data))
    except urllib.error.HTTPError:
        pass
""")
    cell.room.sync()
    deadline = time.monotonic() + 10
    while len(lines := (tmp_path / "calls.jsonl").read_text().splitlines()) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    calls = [json.loads(line) for line in lines]
    assert [(call["method"], call["path"], call["status"]) for call in calls] == [
        ("POST", "/chat", 200), ("GET", "/[TOKEN]/%7f", 200), ("GET", "/a/../b", 403), ("POST", "/status/503", 503),
        ("GET", "/more", 429),
    ]  # fmt: skip
    assert calls[0]["request_bytes"] == 8 and calls[0]["bytes"] == 5 and 0 <= calls[0]["milliseconds"] < 10_000
    assert calls[0]["time"].startswith("20") and "leads out" in calls[2]["refused"]
    assert cell.room.calls == 3


def test_ten_thousand_calls_do_not_freeze_the_relay(
    inside: Make, upstream: tuple[int, list[Any]], tmp_path: Path
) -> None:
    """Nobody asks for the count before the end. The log is capped."""
    port, _ = upstream
    log = CallLog(tmp_path / "calls.jsonl", str, limit=100_000)
    cell = inside(endpoint=Endpoint(f"http://host.docker.internal:{port}"), log=log, calls=100)
    path = "/" + "long" * 1000
    output = cell.python(f"""
import concurrent.futures, http.client
def ask(_):
    client = http.client.HTTPConnection("127.0.0.1", 8399, timeout=60)
    client.request("GET", {path!r})
    return client.getresponse().status
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    statuses = list(pool.map(ask, range(10_000)))
print(statuses.count(200), statuses.count(429))
""")
    assert output == "100 9900\n"
    cell.room.sync()
    assert cell.room.calls == 100
    text = (tmp_path / "calls.jsonl").read_text()
    assert len(text) < 101_000 and text.endswith('{"truncated": true}\n')


def test_a_relay_that_ends_is_noticed(inside: Make, engine: Engine, upstream: tuple[int, list[Any]]) -> None:
    cell = inside(port=8000, endpoint=Endpoint(f"http://host.docker.internal:{upstream[0]}"))
    cell.room.check()
    assert cell.room._relay
    engine.api.kill(cell.room._relay.id)
    deadline = time.monotonic() + 10
    with pytest.raises(IsolationError, match=r"relay\.py has ended"):
        while time.monotonic() < deadline:
            cell.room.check()
            time.sleep(0.05)


def test_a_forwarder_that_is_killed_comes_back(inside: Make, upstream: tuple[int, list[Any]]) -> None:
    """An agent that is root may end all of Python, as `pkill python3` does, and goes on."""
    cell = inside(port=8000, endpoint=Endpoint(f"http://host.docker.internal:{upstream[0]}"))
    cell.python(ECHO, detach=True)
    until_served(cell.room)
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8399/x').read())"
    assert cell.python(ask) == "b'hello'\n"
    cell.python(
        "import glob, os, signal\n"
        "for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    if b'endpoint_port' in open(path, 'rb').read() and (pid := int(path.split('/')[2])) != os.getpid():\n"
        "        os.kill(pid, signal.SIGKILL)\n"
    )
    deadline = time.monotonic() + 20
    while cell.python(ask + " # again") != "b'hello'\n":
        assert time.monotonic() < deadline
        cell.room.check()
        time.sleep(0.1)
    assert until_served(cell.room).ok


# Endpoints that no relay can reach.


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1", "127.255.0.9", "localhost", "LOCALHOST.", "api.localhost",
                                    "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "0", "2130706433", "0x7f.1")),
        *((host, False) for host in ("host.docker.internal", "10.0.0.1", "172.17.0.1", "example.org", "fe80::1",
                                     "localhost.example.org", "169.254.169.254", "1270.0.0.1")),
    ],
)  # fmt: skip
def test_loopback_addresses(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
