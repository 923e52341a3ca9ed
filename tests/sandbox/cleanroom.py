"""A container with a relay, for tests: fixtures, and Python run inside."""

from __future__ import annotations

import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from examples import images
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.isolation.relay_link import RelayLink
from taskgate.harness.sandbox.isolation.tools import Tools
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task
from tests.conftest import CLONE

RUNTIME = {"agent": str(CLONE / "examples/agent.py"), "builder": images.BASE}
SESSION = ownership.new_session()
# Where `Inside.bring` puts packages.
PACKAGES = "/opt/test-packages"


@pytest.fixture(scope="module")
def tools(engine: Engine, client: Any) -> Tools:
    images.base(client)
    sources.resolve(engine, Store(), Runtime(**RUNTIME), engine.platform)
    return Tools(engine, Store())


@pytest.fixture
def upstream() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """An endpoint on this host, and what it was asked. `/status/503` answers with that status."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append({"path": self.path, "headers": dict(self.headers), "body": body.decode()})
            _, _, status = self.path.partition("/status/")
            self.send_response(int(status) if status else 200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], asked
    server.shutdown()
    server.server_close()


class Inside:
    """A container with a relay, and a way to run Python in it."""

    def __init__(self, engine: Engine, tools: Tools, image: str, **room: Any) -> None:
        given = {"port": None, "endpoint": None, "calls": None, "seconds": 600, **room}
        self.engine, self.room = engine, RelayLink(engine, tools, SESSION, **given)
        task = Task("t", image, network="none", pull="never")
        self.container = Container(
            engine, engine.image(task.request), task, SESSION, seconds=600, binds=self.room.binds
        )
        self.container.start()
        self.room.join(self.container)

    def python(self, source: str, *, user: str = "", detach: bool = False) -> str:
        api: Any = self.engine.api
        exec_id = api.exec_create(self.container.id, ["python3", "-c", source], user=user)["Id"]
        output = api.exec_start(exec_id, detach=detach)
        return "" if detach else str(output.decode())

    def bring(self, *packages: str) -> None:
        """Copy packages of this environment that are pure Python; PACKAGES is their folder."""
        import importlib.util

        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for package in packages:
                spec = importlib.util.find_spec(package)
                assert spec and spec.origin
                path = Path(spec.origin)
                tar.add(
                    path.parent if path.name == "__init__.py" else path,
                    f"{PACKAGES}/{package}" + ("" if path.name == "__init__.py" else ".py"),
                    filter=lambda member: None if member.name.endswith((".pyc", ".so")) else member,
                )
        file.seek(0)
        self.engine.api.put_archive(self.container.id, "/", file)

    def close(self) -> None:
        self.container.remove()
        self.room.close()


@pytest.fixture
def inside(engine: Engine, tools: Tools, sound: str) -> Iterator[Callable[..., Inside]]:
    cells: list[Inside] = []

    def make(**room: Any) -> Inside:
        cells.append(Inside(engine, tools, sound, **room))
        return cells[-1]

    yield make
    for cell in cells:
        cell.close()
    # The prover's canary, where a test has one, lives on.
    filters = {"label": f"taskgate.session={SESSION}"}
    assert len(engine.api.containers(all=True, filters=filters)) <= 1
    assert not engine.api.volumes(filters=filters)["Volumes"]


ECHO = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = (self.path + " " + str(sorted(self.headers.keys())) + " " + str(len(body))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_GET = do_POST
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def until_served(room: RelayLink, path: str = "/") -> requests.Response:
    for _ in range(200):
        answer = requests.get(room.url + path, headers=room.headers, timeout=10)
        if answer.status_code != 502 and answer.content:
            return answer
        threading.Event().wait(0.05)
    raise AssertionError(answer.text)


# Large requests, and an answer before they are read.

EARLY = '''
"""Answers 404 at once and hangs up with the request unread, on each connection."""
import socket, sys, threading
def serve(made):
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        data = made.recv(4096)
        if not data:
            return
        head += data
    made.sendall(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 2000\\r\\nConnection: close\\r\\n\\r\\n" + b"n" * 2000)
    made.close()
def main(host, port, ready=lambda port: None):
    listener = socket.create_server((host, port), backlog=100)
    ready(listener.getsockname()[1])
    while True:
        made, _ = listener.accept()
        threading.Thread(target=serve, args=(made,), daemon=True).start()
'''

UPLOADS = '''
"""`upload(kind, url, headers, times)`: how many answers with their whole body arrived for 50 MB each, and errors."""
import http.client
from urllib.parse import urlsplit
BODY = b"x" * 50_000_000
def upload(kind, url, headers, times, status=404, length=2000):
    arrived, errors = 0, []
    for _ in range(times):
        try:
            if kind == "httpx":
                import httpx
                with httpx.Client(trust_env=False, timeout=60) as client:
                    answer = client.post(url, content=BODY, headers=headers)
                seen = answer.status_code, len(answer.content)
            elif kind == "requests":
                import requests
                with requests.Session() as session:
                    session.trust_env = False
                    answer = session.post(url, data=BODY, headers=headers, timeout=60)
                    seen = answer.status_code, len(answer.content)
            else:
                parts = urlsplit(url)
                client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
                client.request("POST", parts.path, BODY, headers)
                answer = client.getresponse()
                seen = answer.status, len(answer.read())
                client.close()
            if seen[0] == status and (length is None or seen[1] == length):
                arrived += 1
            else:
                errors.append(repr(seen))
        except Exception as error:
            errors.append(repr(error)[:200])
    return arrived, errors
'''
CLIENTS = ["httpx", "requests", "http.client"]
CLIENT_PACKAGES = ("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "requests", "urllib3", "charset_normalizer",
                   "typing_extensions")  # fmt: skip

__all__ = [
    "CLIENTS", "CLIENT_PACKAGES", "EARLY", "ECHO", "PACKAGES", "RUNTIME", "SESSION", "UPLOADS", "Inside",
    "inside", "tools", "until_served", "upstream",
]  # fmt: skip
