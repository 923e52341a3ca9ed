"""A real registry on loopback, and a proxy in front of it that can be told to fail."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Fault = Callable[[http.server.BaseHTTPRequestHandler], bool]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def registry(htpasswd: str | None = None, tls: Path | None = None) -> Iterator[int]:
    """The port of a fresh registry; with the text of an htpasswd file, one that wants a login; with a folder, one that
    wants TLS and leaves its certificate there as ca.crt."""
    program = shutil.which("docker-registry")
    assert program, "docker-registry is missing: apt-get install docker-registry"
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {name}/data}}}}\n"
            f"http: {{addr: 127.0.0.1:{port}{_tls(tls) if tls else ''}}}\n"
            + (f"auth: {{htpasswd: {{realm: taskgate, path: {name}/htpasswd}}}}\n" if htpasswd else "")
        )
        (Path(name) / "htpasswd").write_text(htpasswd or "")
        process = subprocess.Popen([program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
                    break
                except urllib.error.HTTPError:
                    # It wants a login, or TLS.
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                raise AssertionError("the registry does not answer")
            yield port
        finally:
            process.terminate()
            process.wait(timeout=30)


def _tls(folder: Path) -> str:
    """A certificate for 127.0.0.1, as a part of the registry's configuration."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/key", "-out", f"{folder}/ca.crt"]
    subprocess.run(command, check=True, capture_output=True)
    return f", tls: {{certificate: {folder}/ca.crt, key: {folder}/key}}"


class Server(http.server.ThreadingHTTPServer):
    """As many at once as a real registry takes; else the kernel resets connections."""

    request_queue_size = 128


class Proxy:
    """Forwards to the registry; `fault` may answer a request itself. `seen` holds (method, path) of all, `received` the
    bytes that were sent to it."""

    def __init__(self, behind: int) -> None:
        self.fault: Fault | None = None
        self.seen: list[tuple[str, str]] = []
        self.received = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                proxy.seen.append((self.command, self.path))
                if proxy.fault and proxy.fault(self):
                    return
                inner = http.client.HTTPConnection("127.0.0.1", behind, timeout=60)
                body = self.body()
                # An engine says what it accepts in many lines; the registry would take the last for all.
                headers = {
                    name: ", ".join(self.headers.get_all(name, ()))
                    for name in self.headers
                    if name.lower() != "transfer-encoding"
                }
                proxy.received += len(body)
                inner.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
                answer = inner.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                inner.close()

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(
    status: int,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    only: str = "/manifests/",
    times: int = 10**9,
) -> Fault:
    """A fault: this answer to the first `times` requests whose path holds `only`."""
    left = [times]

    def fault(request: http.server.BaseHTTPRequestHandler) -> bool:
        if only not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
        return True

    return fault


def cut(request: http.server.BaseHTTPRequestHandler) -> bool:
    """A fault: a layer's connection breaks in its middle."""
    if "/blobs/" not in request.path or request.command != "GET":
        return False
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    request.wfile.write(b"x" * 100)
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)
    return True


def fill(port: int, names: list[str], *, platform: str = "linux/amd64", index: list[str] | None = None) -> None:
    """Publish a small image as each of `names` (REPOSITORY:TAG); `index`: as a list of platforms."""
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        made.request(method, path, body, headers)
        answer = made.getresponse()
        answer.read()
        assert answer.status < 300, (method, path, answer.status)
        return answer

    def blob(repository: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"].partition(f":{port}")[2]
        ask("PUT", f"{place}&digest={digest}", data, **{"Content-Type": "application/octet-stream"})
        return {"digest": digest, "size": len(data)}

    def manifest(repository: str, tag: str | None, kind: str, told: dict[str, Any]) -> dict[str, Any]:
        kind = f"application/vnd.docker.distribution.manifest.{kind}.v2+json" if kind else told["mediaType"]
        data = json.dumps({"schemaVersion": 2, "mediaType": kind, **told}).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        ask("PUT", f"/v2/{repository}/manifests/{tag or digest}", data, **{"Content-Type": kind})
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def image(repository: str, tag: str | None, of: str) -> dict[str, Any]:
        system, architecture = of.split("/")[:2]
        config = {
            "os": system,
            "architecture": architecture,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        about = blob(repository, json.dumps({**config, "history": [{"created_by": tag}]}).encode())
        kind = "application/vnd.docker.container.image.v1+json"
        return manifest(repository, tag, "", {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": kind, **about}, "layers": [],
        })  # fmt: skip

    for name in names:
        repository, _, tag = name.rpartition(":")
        if index is None:
            image(repository, tag, platform)
            continue
        entries = [
            {**image(repository, None, of), "platform": dict(zip(("os", "architecture"), of.split("/"), strict=True))}
            for of in index
        ]
        manifest(repository, tag, "list", {"manifests": entries})
    made.close()


def publish(port: int, name: str, layers: list[bytes], *, architecture: str = "amd64") -> None:
    """Publish an image of these layers, each a tar, as `name` (REPOSITORY:TAG); layers that are there are shared."""
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    repository, _, tag = name.rpartition(":")

    def ask(method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> str:
        made.request(method, path, body, {"Content-Type": kind})
        answer = made.getresponse()
        answer.read()
        assert answer.status < 300, (method, path, answer.status)
        return (answer.getheader("Location") or "").partition(f":{port}")[2]

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        ask("PUT", f"{ask('POST', f'/v2/{repository}/blobs/uploads/')}&digest={digest}", data)
        return {"mediaType": f"application/vnd.docker.{kind}", "digest": digest, "size": len(data)}

    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        "history": [{"created_by": "test"} for _ in layers],
    }
    told = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": blob(json.dumps(config).encode(), "container.image.v1+json"),
        "layers": [blob(gzip.compress(one, 1, mtime=0), "image.rootfs.diff.tar.gzip") for one in layers],
    }
    ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(told).encode(), str(told["mediaType"]))
    made.close()
