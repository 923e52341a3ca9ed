"""Registries asked over their API: a real one with paging and a login, and behind a proxy that fails in every way."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import ImageNotFound, PlatformUnavailable, RegistryError, UsageError
from taskgate.harness.engine.registries import registry_client as registries
from taskgate.harness.engine.registries.reference import Reference, base_url
from taskgate.harness.engine.registries.registry_client import Client
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.tasks import manifest, manifest_dump, task_set
from taskgate.harness.tasks.task import Task
from tests import registry
from tests.conftest import Gate
from tests.registry import Proxy, answer

# What `htpasswd -B` makes of user and secret.
LOGIN = "user:$2b$04$gFRyWXNmDnJIt7XvGtgrzeadQmuVO7Fy82pwBCebFD93Gq8D2cE/G\n"
COUNT = 300


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A registry with a few hundred images."""
    with registry.registry() as made:
        registry.fill(made, [f"bench/task-{number:03}:v1" for number in range(COUNT)])
        registry.fill(made, ["bench/task-000:v2", "bench/task-000:latest", "other/one:latest", "alone:latest"])
        registry.fill(made, ["bench/arm:v1"], platform="linux/arm64")
        registry.fill(made, ["bench/both:v1"], index=["linux/amd64", "linux/arm64"])
        yield made


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    made = Proxy(port)
    yield made
    made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits between tries."""
    monkeypatch.setattr(registries, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(registries, "READ_SECONDS", 1.0)


def _task(image: str, **more: Any) -> Task:
    return Task(image, image, **more)


@pytest.mark.parametrize(
    ("image", "registry_name", "repository", "what"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("a/b:c", "docker.io", "a/b", "c"),
        ("docker.io/library/x", "docker.io", "library/x", "latest"),
        ("localhost:5000/a/b@sha256:" + "0" * 64, "localhost:5000", "a/b", "sha256:" + "0" * 64),
        ("registry.example/a/b:1@sha256:" + "1" * 64, "registry.example", "a/b", "sha256:" + "1" * 64),
    ],
)
def test_names(image: str, registry_name: str, repository: str, what: str) -> None:
    assert Reference.parse(image) == Reference(registry_name, repository, what)


def test_where_a_registry_is() -> None:
    assert base_url("docker.io") == "https://registry-1.docker.io"
    assert (
        base_url("registry.example") == "https://registry.example"
        and base_url("localhost:5000") == "http://localhost:5000"
    )
    for host in ("127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "localhost"):
        assert base_url(host) == f"http://{host}"
    for host in ("localhost.example", "127.example:5000", "127.0.0.1.example", "localhost@evil.example", "[::1"):
        assert base_url(host) == f"https://{host}"
    with pytest.raises(ImageNotFound):
        Reference.parse("-a.b/c")


def test_the_catalogue_in_pages(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "PAGE", 50)
    client = Client(f"127.0.0.1:{port}")
    found = list(client.repositories())
    assert len(found) == len(set(found)) == COUNT + 4
    assert sorted(client.tags("bench/task-000")) == ["latest", "v1", "v2"]
    with pytest.raises(ImageNotFound):
        list(client.tags("nobody/here"))


def test_a_dump(port: int, tmp_path: Path) -> None:
    tasks = task_set.load(f"registry://127.0.0.1:{port}")
    assert len(tasks) == COUNT + 6 and len({task.id for task in tasks}) == len(tasks)
    some = task_set.load(f"registry://127.0.0.1:{port}/bench?match=*:v1")
    assert len(some) == COUNT + 2 and all(task.image.startswith(f"127.0.0.1:{port}/bench/") for task in some)
    (tmp_path / "m.yaml").write_text(manifest_dump.dump(some))
    assert manifest.load(tmp_path / "m.yaml") == some
    assert [task.id for task in task_set.load(f"registry://127.0.0.1:{port}/other/one")] == ["other/one:latest"]
    for wrong, said in (
        ("registry://", "expected registry://HOST"),
        (f"registry://127.0.0.1:{port}/none", "no images"),
    ):
        with pytest.raises(UsageError, match=said):
            task_set.load(wrong)


def test_without_a_catalogue(proxy: Proxy, quick: None) -> None:
    """As on Docker Hub: a namespace that is a repository can be listed all the same."""
    proxy.fault = answer(401, headers={"WWW-Authenticate": "nonsense"}, only="/_catalog")
    host = f"127.0.0.1:{proxy.port}"
    assert [task.id for task in task_set.load(f"registry://{host}/bench/task-000")] == [
        f"bench/task-000:{tag}" for tag in ("latest", "v1", "v2")
    ]
    with pytest.raises(RegistryError, match="without saying how to log in"):
        task_set.load(f"registry://{host}")


def test_a_catalogue_that_fails_for_now(proxy: Proxy, quick: None) -> None:
    """The namespace may hold more repositories than the one of its name: the set must not shrink unnoticed."""
    proxy.fault = answer(503, only="/_catalog")
    with pytest.raises(RegistryError, match="503"):
        task_set.load(f"registry://127.0.0.1:{proxy.port}/bench/task-000")


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker/config.json"


def test_a_login(docker_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with registry.registry(LOGIN) as port:
        host = f"127.0.0.1:{port}"
        with pytest.raises(RegistryError, match=f"run `docker login {host}`"):
            list(Client(host).repositories())
        secret = base64.b64encode(b"user:secret").decode()
        docker_config.write_text(json.dumps({"auths": {host: {"auth": secret}}}))
        assert list(Client(host).repositories()) == []
        docker_config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(b"user:wrong").decode()}}}))
        with pytest.raises(RegistryError, match="401"):
            list(Client(host).repositories())
        # A credential helper.
        helper = tmp_path / "docker-credential-taskgate"
        helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "user", "Secret": "secret"}\'\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        docker_config.write_text(json.dumps({"credHelpers": {host: "taskgate"}}))
        assert list(Client(host).repositories()) == []


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    with registry.registry(tls=tmp_path) as port:
        host = f"127.0.0.1:{port}"
        with pytest.raises(RegistryError, match="certificate verify failed"):
            list(Client(host).repositories())
        # As the engine does, by the folder of the registry's name.
        monkeypatch.setattr(registries, "AUTHORITIES", tmp_path / "certs.d")
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        (tmp_path / "certs.d" / host / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
        assert list(Client(host).repositories()) == []
        assert list(Client(host, scheme="https").repositories()) == []


@pytest.fixture
def issuer() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server of tokens: its URL, and what it was asked, with which login."""
    asked: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            data = json.dumps({"token": f"token-{len(asked)}", "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/token", asked
    server.shutdown()
    server.server_close()


def test_tokens(proxy: Proxy, issuer: tuple[str, list[tuple[str, str]]], docker_config: Path, quick: None) -> None:
    realm, asked = issuer
    host = f"127.0.0.1:{proxy.port}"
    docker_config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(b"me:mine").decode()}}}))

    def fault(request: http.server.BaseHTTPRequestHandler) -> bool:
        if request.headers.get("Authorization", "").startswith("Bearer token-"):
            return False
        scope = "repository:bench/task-001:pull"
        said = f'Bearer realm="{realm}",service="there",scope="{scope}"'
        return answer(401, headers={"WWW-Authenticate": said}, only="/")(request)

    proxy.fault = fault
    client = Client(host)
    for _ in range(3):
        assert client.exists(Reference.parse(f"{host}/bench/task-001:v1"))
    assert len(asked) == 1 and "service=there" in asked[0][0] and "bench%2Ftask-001" in asked[0][0]
    assert asked[0][1] == "Basic " + base64.b64encode(b"me:mine").decode()
    # TLS to the registry, and then the password in the clear to somebody else: no.
    strict = Client("registry.example")
    with pytest.raises(RegistryError, match="without TLS"):
        strict._authenticate(f'Bearer realm="{realm}"', "x")


def test_429_is_obeyed(proxy: Proxy) -> None:
    proxy.fault = answer(429, headers={"Retry-After": "2"}, times=1)
    client, begun = Client(f"127.0.0.1:{proxy.port}"), time.monotonic()
    seen = []

    def ask(number: int) -> None:
        assert client.exists(Reference.parse(f"127.0.0.1:{proxy.port}/bench/task-{number:03}:v1"))
        seen.append(time.monotonic() - begun)

    ask(0)
    # One was told to wait: all who share the client do.
    assert seen[0] >= 2
    proxy.fault = answer(
        429, headers={"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))}, times=1
    )
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 9


@pytest.mark.parametrize("times", [2, 10**9], ids=["twice", "always"])
@pytest.mark.parametrize("kind", ["500", "503", "cut", "reset", "stall", "nonsense"])
def test_a_registry_that_fails(proxy: Proxy, quick: None, kind: str, times: int) -> None:
    left = [times]

    def fault(request: http.server.BaseHTTPRequestHandler) -> bool:
        if "/manifests/" not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        if kind in ("500", "503"):
            return answer(int(kind), body=b'{"errors": [{"code": "BROKEN", "message": "no"}]}')(request)
        if kind == "nonsense":
            return answer(200, body=b"<html>")(request)
        if kind == "stall":
            time.sleep(1.5)
        if kind == "cut":
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b'{"config": ')
        request.close_connection = True
        return True

    proxy.fault = fault
    registry_lookup = RegistryLookup()
    task = _task(f"127.0.0.1:{proxy.port}/bench/task-002:v1")
    try:
        if times == 2 and kind != "nonsense":
            assert registry_lookup.image(task.request).platform == "linux/amd64"
        else:
            with pytest.raises(RegistryError) as caught:
                registry_lookup.image(task.request)
            # Nothing is known of the image: it is not said to be missing.
            assert not isinstance(caught.value, ImageNotFound) and not caught.value.transient
    finally:
        registry_lookup.close()


def test_hostile_answers(proxy: Proxy, quick: None) -> None:
    client = Client(f"127.0.0.1:{proxy.port}")
    for headers, body, said in (
        ({"Link": '<http://elsewhere.invalid/v2/_catalog?n=1>; rel="next"'}, b'{"repositories": ["a"]}', "elsewhere"),
        ({"Link": '</v2/_catalog?n=500>; rel="next"'}, b'{"repositories": ["a"]}', "repeat without end"),
        ({}, b"[1]", "not a JSON object"),
        ({}, b" " * (9 << 20), "more than 8 MiB"),
    ):
        proxy.fault = answer(200, headers=headers, body=body, only="/_catalog")
        with pytest.raises(RegistryError, match=said):
            list(client.repositories())
    proxy.fault = answer(307, headers={"Location": f"http://127.0.0.1:{proxy.port}/v2/_catalog"}, only="/_catalog")
    with pytest.raises(RegistryError):
        list(client.repositories())


def test_a_survey(port: int, proxy: Proxy) -> None:
    host = f"127.0.0.1:{proxy.port}"
    tasks = [_task(f"{host}/bench/task-{number:03}:v1") for number in range(COUNT)]
    registry_lookup = RegistryLookup()
    registry_lookup.expect([task.request for task in tasks])
    assert {registry_lookup.image(task.request).platform for task in tasks} == {"linux/amd64"}
    assert registry_lookup.image(_task(f"{host}/bench/arm:v1").request).platform == "linux/arm64"
    both = [
        registry_lookup.image(_task(f"{host}/bench/both:v1", platform=f"linux/{name}").request).platform
        for name in ("amd64", "arm64")
    ]
    assert both == ["linux/amd64", "linux/arm64"]
    with pytest.raises(
        PlatformUnavailable, match=r"not published for linux/s390x; available: linux/amd64, linux/arm64"
    ):
        registry_lookup.image(_task(f"{host}/bench/both:v1", platform="linux/s390x").request)
    with pytest.raises(ImageNotFound):
        registry_lookup.image(_task(f"{host}/bench/task-000:v9").request)
    # Nothing was asked twice, and no layer at all.
    assert len([path for method, path in proxy.seen if "/manifests/v1" in path]) <= COUNT + 4
    registry_lookup.close()


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_the_gate_without_pulling(
    gate: Gate, proxy: Proxy, client: Any, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    host = f"127.0.0.1:{proxy.port}"
    text = f"version: 1\ndefaults: {{repo_path: null, runtime: {{agent: {tmp_path}/agent.py}}}}\ntasks:\n"
    (tmp_path / "agent.py").write_text("")
    text += "".join(f"- {{id: t{number}, image: '{host}/bench/task-{number:03}:v1'}}\n" for number in range(100))
    text += f"- {{id: missing, image: '{host}/bench/nobody:v1'}}\n- {{id: foreign, image: '{host}/bench/arm:v1'}}\n"
    proxy.fault = answer(429, headers={"Retry-After": "1"}, times=20)
    run = gate(text, "--checks=image_exists,platform", *workers)
    assert run.status == 10, run.output
    assert run.verdicts["counts"] == {"healthy": 100, "broken": 1, "incompatible": 1, "infra": 0}, run.output
    assert run.tasks["missing"]["check"] == "image_exists" and run.listed == {"missing"}
    assert run.tasks["t0"]["digest"].startswith("sha256:")
    assert client.images.list(filters={"reference": f"{host}/*/*"}) == []
    assert not [path for method, path in proxy.seen if "/blobs/" in path and method == "HEAD"]


class Clock:
    """Goes on only while somebody sleeps."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_those_who_wait_do_not_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four connections in one moment are more than some registries take."""
    came = set[float]()
    for _ in range(20):
        clock = Clock()
        monkeypatch.setattr("taskgate.harness.engine.registries.registry_client.time", clock)
        asking = Client("registry.example.com")
        monkeypatch.setattr(asking, "_sleep", clock.sleep)
        asking._wait()
        assert clock.now == 100.0
        asking._pause(1, "5")
        asking._wait()
        came.add(round(clock.now, 3))
    assert len(came) > 10 and min(came) >= 105.0


def test_existence_alone_is_no_pull(gate: Gate, proxy: Proxy) -> None:
    host = f"127.0.0.1:{proxy.port}"
    ids = [f"bench/task-{number:03}:v1" for number in range(20)]
    text = "version: 1\ntasks:\n" + "".join(f"- {{id: '{name}', image: '{host}/{name}'}}\n" for name in ids)
    run = gate(text + f"- {{id: gone, image: '{host}/bench/gone:v1'}}\n", "--checks=image_exists")
    assert run.status == 1 and run.verdicts["counts"]["healthy"] == 20 and run.listed == {"gone"}, run.output
    assert {method for method, path in proxy.seen if path != "/v2/"} == {"HEAD"} and len(proxy.seen) == 21


def test_the_gate_on_a_dead_registry(gate: Gate, tmp_path: Path) -> None:
    port = registry.free_port()
    text = "version: 1\ntasks:\n" + "".join(f"- {{id: t{n}, image: '127.0.0.1:{port}/a:{n}'}}\n" for n in range(30))
    run = gate(text, "--checks=image_exists,platform")
    assert run.status == 10 and run.verdicts["counts"]["infra"] == 30 and run.listed == set(), run.output
