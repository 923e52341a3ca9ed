"""A real registry behind a proxy that fails in every way: only what it says it has not is broken."""

from __future__ import annotations

import http.server
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from examples import images
from tests import engines, registry
from tests.faults import scene
from tests.faults.loopback import lent
from tests.faults.scene import HOPELESS, LONG, Scene
from tests.registry import Fault, answer

pytestmark = pytest.mark.slow

PLATFORM, EXISTENCE = ("--checks=image_exists,platform",), ("--checks=image_exists",)
OVER = threading.Event()


def stalled(only: str, sent: int) -> Fault:
    """An answer that stops after so many bytes, and never goes on."""

    def fault(request: http.server.BaseHTTPRequestHandler) -> bool:
        if only not in request.path:
            return False
        if sent:
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
            request.wfile.write(b"x" * sent)
        OVER.wait()
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)
        return True

    return fault


def around(request: http.server.BaseHTTPRequestHandler) -> bool:
    """Every request is sent to where it came from."""
    return answer(307, headers={"Location": request.path}, only="/v2/")(request)


DENIED = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}).encode()
OTHER = json.dumps({"schemaVersion": 2}).encode()
MANIFEST = {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"}
# By repository. Those of /v2/ fail for whatever is asked there.
FAULTS = {
    "401": answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'}, only="/v2/"),
    "403": answer(403, body=DENIED, only="/v2/"),
    "404-of-something-else": answer(404, body=b"<html>not here</html>", only="/v2/"),
    "429": answer(429, only="/v2/"),
    "429-retry-after": answer(429, headers={"Retry-After": "1"}, only="/v2/"),
    "500": answer(500, only="/v2/"),
    "503": answer(503, only="/v2/"),
    "redirects": around,
    "manifest-stalls": stalled("/manifests/", 0),
    "manifest-of-another": answer(200, headers=MANIFEST, body=OTHER),
    "layer-cut": registry.cut,
    "layer-stalls": stalled("/blobs/", 100),
    "layer-of-another": answer(200, body=b"x" * 100, only="/blobs/"),
    "layer-redirects": lambda request: "/blobs/" in request.path and around(request),
    "layer-429": answer(429, only="/blobs/"),
}
# Who asks only whether a manifest is there sees none of these.
DEEP = {name for name in FAULTS if name.startswith("layer")} | {"manifest-of-another"}
# These the engine itself tries again and again, or waits for.
SLOW = {"layer-cut", "layer-redirects", "layer-stalls"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[engines.Daemon]:
    """One that tries a layer once: how often it does is not what these tests look at."""
    with engines.dockerd("--bridge=none", "--max-download-attempts=1") as made:
        yield made


@pytest.fixture(scope="module")
def proxy(daemon: engines.Daemon) -> Iterator[registry.Proxy]:
    """Every fault's repository, and a sound one."""
    with registry.registry() as port, ExitStack() as held:
        made = registry.Proxy(port)
        held.callback(made.close)
        for one in (port, made.port):
            held.enter_context(lent(daemon.pid, one))
        client = docker.DockerClient(base_url=daemon.url)
        for name in ("sound", *FAULTS):
            tag = f"127.0.0.1:{port}/faults/{name}"
            # Of their own down to the layers, so that each has to be pulled.
            files = {"bin/sh": Path("/bin/busybox").read_bytes(), "tmp/.keep": secrets.token_bytes(9000)}
            images.load(client, f"{tag}:v1", files, client.version()["Arch"], {"bin/sh": 0o755})
            for line in client.api.push(tag, tag="v1", stream=True, decode=True):
                assert "error" not in line, line
            client.images.remove(f"{tag}:v1")
        client.close()
        held.callback(OVER.set)
        yield made


@pytest.fixture
def rows(daemon: engines.Daemon, proxy: registry.Proxy, long: bool) -> list[str]:
    """A task for each fault among those on the engine, and of what the registry has and has not."""
    where = f"127.0.0.1:{proxy.port}/faults"
    wanted = {"sound-published": "sound:v1", "broken-tag": "sound:v2", "broken-name": "none:v1"}
    wanted |= {
        f"{'deep' if name in DEEP else 'lost'}-{name}": f"{name}:v1" for name in FAULTS if long or name not in SLOW
    }
    pulled = [f"{{id: {task_id}, image: '{where}/{name}', pull: missing}}" for task_id, name in wanted.items()]
    client = docker.DockerClient(base_url=daemon.url)
    # What another case pulled would not be asked for.
    for image in client.images.list():
        for tag in image.tags:
            client.images.remove(tag)
    client.close()
    return [*(scene.small(daemon.url) if long else ()), *pulled]


@pytest.mark.parametrize(
    "asked", [(), PLATFORM, pytest.param(EXISTENCE, marks=LONG)], ids=["pulled", "platform", "existence"]
)
@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=LONG)], ids=["plain", "xdist"])
def test_a_registry_that_fails(
    make: Callable[..., Scene],
    rows: list[str],
    proxy: registry.Proxy,
    asked: tuple[str, ...],
    workers: tuple[str, ...],
) -> None:
    """Whatever a registry does, its images are infra; only a tag or a name that it does not know is broken."""
    OVER.clear()
    # The engine's own are broken for what is found out in a container.
    here = make(rows=[row for row in rows if "pull: missing" in row] if asked else rows)
    here.allowed["deep"] = {"healthy"} if asked == EXISTENCE else {"infra"}
    proxy.fault = _by_repository
    ended = here.run(*HOPELESS, *asked, *workers)
    here.holds(ended, 10)
    told = here.verdicts()
    assert told["sound-published"] == "healthy" and told["broken-tag"] == told["broken-name"] == "broken"
    OVER.set()
    proxy.fault = None
    here.allowed["lost"] = here.allowed["deep"] = {"infra", "healthy"}
    here.recovers(*asked)


def _by_repository(request: http.server.BaseHTTPRequestHandler) -> bool:
    name = request.path.removeprefix("/v2/faults/").partition("/")[0]
    return name in FAULTS and FAULTS[name](request)
