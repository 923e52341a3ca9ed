"""A registry that answers nonsense, or for ever: an error of its own, in bounded time and memory."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from taskgate.harness.base.errors import ImageNotFound, PlatformUnavailable, RegistryError, Unresolved
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.registries import registry_client as registries
from taskgate.harness.engine.registries.reference import Reference
from taskgate.harness.engine.registries.registry_client import Client
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.tasks.importers.importer import Source
from taskgate.harness.tasks.importers.registry import load

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def _registry(answer: Answer) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _say(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value.replace("HOST", request.headers["Host"]))
        request.end_headers()
        request.wfile.write(body)

    return answer


def _for_ever(status: int, **headers: str) -> tuple[Answer, list[int]]:
    """An answer without an end, and how many bytes of it were sent."""
    sent = [0]

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        _say(status, b"", **headers)(request)
        # More than fits between two processes: what is not read is not sent.
        while sent[0] < 200 << 20:
            try:
                request.wfile.write(b" " * (1 << 20))
            except OSError:
                return
            sent[0] += 1 << 20

    return answer, sent


@pytest.mark.parametrize(
    "challenge",
    ["", "Bearer", 'Bearer realm="http://["', 'Bearer realm="http://a]b/"', 'Bearer realm="//"', 'Bearer realm="x:y"',
     'Bearer realm="http://HOST:99999999/"', 'Bearer realm="http://\xff/"', 'Basic realm="', "Bearer " + "a" * 30000],
    ids=range(10),
)  # fmt: skip
def test_challenges(challenge: str) -> None:
    with _registry(_say(401, WWW_Authenticate=challenge)) as host, pytest.raises(RegistryError):
        list(Client(host).repositories())


@pytest.mark.parametrize(
    "link",
    ['<http://[>; rel="next"', "<//a]b>; rel=next", "<http://other.invalid/>; rel=next", '<?n=1>; rel="next"'],
    ids=range(4),
)
def test_links(link: str) -> None:
    with _registry(_say(200, b'{"repositories": ["a"]}', Link=link)) as host, pytest.raises(RegistryError):
        list(Client(host).repositories())


@pytest.mark.parametrize(
    "body", [b'{"repositories": 5}', b'{"repositories": {"a": 1}}', b'{"repositories": [5, null]}']
)
def test_lists_that_are_none(body: bytes) -> None:
    with _registry(_say(200, body)) as host:
        assert list(Client(host).repositories()) == []


@pytest.mark.parametrize("token", ['"\\u2603"', '"a\\r\\nX: y"', "5", "[]", '"\\ud800"'])
def test_tokens(token: str) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/token"):
            _say(200, f'{{"token": {token}}}'.encode())(request)
        else:
            _say(401, WWW_Authenticate='Bearer realm="http://HOST/token"')(request)

    with _registry(answer) as host, pytest.raises(RegistryError):
        list(Client(host).repositories())


def test_a_token_without_an_end() -> None:
    endless, sent = _for_ever(200)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        ask = _say(401, WWW_Authenticate='Bearer realm="http://HOST/token"')
        endless(request) if request.path.startswith("/token") else ask(request)

    with _registry(answer) as host, pytest.raises(RegistryError):
        list(Client(host).repositories())
    assert sent[0] < 100 << 20


def test_a_redirect_without_an_end() -> None:
    """Where it points is followed; what it says besides is not read."""
    endless, sent = _for_ever(302, Location="/v2/other")

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        _say(200, b'{"repositories": ["a"]}')(request) if request.path == "/v2/other" else endless(request)

    with _registry(answer) as host:
        assert list(Client(host).repositories()) == ["a"]
    assert sent[0] < 100 << 20


@pytest.mark.parametrize(
    "location",
    ["http://a..b/x", "http://[::1/", "http://\xff\xfe/x", "ftp://x/", "http:///x", "http://127.0.0.1:99999999/",
     f"http://{'a' * 70}.b/"],
    ids=range(7),
)  # fmt: skip
def test_redirects_to_nowhere(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "WAIT_SECONDS", 0.01)
    with _registry(_say(302, Location=location)) as host, pytest.raises(RegistryError):
        list(Client(host).repositories())


@pytest.mark.parametrize("name", ["a..b.com", "a" * 70 + ".com", "a" * 5000 + ".com"], ids=range(3))
def test_names_of_registries_that_are_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "WAIT_SECONDS", 0.01)
    registry_lookup = RegistryLookup()
    with pytest.raises((RegistryError, ImageNotFound)):
        registry_lookup.image(ImageRequest(f"{name}/x:1"))
    registry_lookup.close()


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives docker a password for a registry."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def give(host: str) -> None:
        secret = base64.b64encode(b"user:secret").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))

    return give


@contextmanager
def _other() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A host that wants tokens to be had from itself, and what it is asked, with which credentials."""
    asked: list[tuple[str, str | None]] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append((request.path, request.headers.get("Authorization")))
        if request.path.startswith("/token"):
            _say(200, b'{"token": "t"}')(request)
        else:
            _say(401, WWW_Authenticate='Bearer realm="http://HOST/token"')(request)

    with _registry(answer) as host:
        yield host, asked


def test_no_login_to_where_a_redirect_leads(login: Callable[[str], None]) -> None:
    with _other() as (other, asked), _registry(_say(302, Location=f"http://{other}/v2/x")) as host:
        login(host)
        with pytest.raises(RegistryError, match=f"redirects to {other}, which answers 401"):
            list(Client(host).repositories())
        assert asked == [("/v2/x", None)]


def test_no_netrc_for_where_a_redirect_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with _other() as (other, asked), _registry(_say(307, Location=f"http://{other}/v2/x")) as host:
        with pytest.raises(RegistryError):
            list(Client(host).repositories())
        assert asked == [("/v2/x", None)]


def test_a_login_to_a_registry_that_redirects_within_itself(login: Callable[[str], None]) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path != "/v2/other":
            _say(302, Location="/v2/other")(request)
        elif request.headers.get("Authorization") is None:
            _say(401, WWW_Authenticate='Basic realm="x"')(request)
        else:
            _say(200, b'{"repositories": ["a"]}')(request)

    with _registry(answer) as host:
        login(host)
        assert list(Client(host).repositories()) == ["a"]


@pytest.mark.parametrize(
    "realm", ["http://elsewhere.invalid/token", "http://registry.example.evil.invalid/token"], ids=["other", "longer"]
)
def test_no_password_in_the_clear(realm: str, login: Callable[[str], None]) -> None:
    """`?scheme=http` says how a registry is asked, and nothing of others."""
    login("registry.example")
    asked = Client("registry.example", scheme="http")
    with pytest.raises(RegistryError, match="without TLS"):
        asked._authenticate(f'Bearer realm="{realm}"', "x")


Drip = Callable[[http.server.BaseHTTPRequestHandler, Callable[[bytes], None]], None]


def _drip_body(request: http.server.BaseHTTPRequestHandler, slowly: Callable[[bytes], None]) -> None:
    request.send_response(200)
    request.end_headers()
    slowly(b" ")
    request.wfile.write(b'{"repositories": ["a"], "token": "t"}')


def _drip_headers(request: http.server.BaseHTTPRequestHandler, slowly: Callable[[bytes], None]) -> None:
    request.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    slowly(b"y")
    request.wfile.write(b'\r\n\r\n{"repositories": ["a"], "token": "t"}')


@pytest.mark.parametrize("drip", [_drip_body, _drip_headers])
@pytest.mark.parametrize("what", ["/v2/", "/token"])
def test_an_answer_that_drips(drip: Drip, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece comes soon, and all of them never: it is given up in the middle, not when the last one is there."""
    monkeypatch.setattr(registries, "ANSWER_SECONDS", 1.0)
    sent, over = [0], threading.Event()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        def slowly(piece: bytes) -> None:
            while sent[0] < 100 and not over.wait(0.1):
                request.wfile.write(piece)
                sent[0] += 1

        if request.path.startswith(what):
            with contextlib.suppress(OSError):
                drip(request, slowly)
        else:
            _say(401, WWW_Authenticate='Bearer realm="http://HOST/token"')(request)

    with _registry(answer) as host:
        with pytest.raises(RegistryError, match=r"an answer took more than 1 s"):
            list(Client(host).repositories())
        over.set()
    assert 0 < sent[0] < 100


def test_a_walk_from_place_to_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "ANSWER_SECONDS", 1.0)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        _say(302, Location=f"{request.path}+")(request)

    with _registry(answer) as host, pytest.raises(RegistryError, match=r"an answer took more than 1 s"):
        list(Client(host).repositories())


@pytest.mark.parametrize(
    "body",
    [b"5", b"[]", b'{"config": 5}', b'{"config": {"digest": 5}}', b'{"manifests": 5}', b'{"manifests": [5, {"platform": []}]}',
     b'{"manifests": [{"platform": {"os": [], "architecture": {}}, "digest": "x"}]}'],
    ids=range(7),
)  # fmt: skip
def test_manifests(body: bytes) -> None:
    """Nothing is known of the image then: it is never said to be missing."""
    with _registry(_say(200, body)) as host:
        registry_lookup = RegistryLookup()
        with pytest.raises((RegistryError, PlatformUnavailable)):
            registry_lookup.image(ImageRequest(f"{host}/a:1"))
        registry_lookup.close()


def _there(host: str) -> bool:
    return Client(host).exists(Reference.parse(f"{host}/a:1"))


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b'{"status": "ok"}'])
def test_a_web_site_that_has_every_page(body: bytes) -> None:
    with _registry(_say(200, body, Content_Type="text/html")) as host, pytest.raises(RegistryError):
        _there(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"Docker-Content-Digest": "sha256:0"},
        {"Docker-Distribution-API-Version": "registry/2.0"},
        {"Content-Type": "application/vnd.oci.image.index.v1+json; charset=utf-8"},
        {"Content-Type": "application/json"},
    ],
    ids=lambda headers: next(iter(headers.values())),
)
def test_a_manifest_that_is_there(headers: dict[str, str]) -> None:
    """One that tells by no header is looked at."""
    asked: list[str] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.command)
        _say(200, b'{"schemaVersion": 2}' if request.command == "GET" else b"", **headers)(request)

    with _registry(answer) as host:
        assert _there(host)
    assert asked == (["HEAD", "GET"] if headers == {"Content-Type": "application/json"} else ["HEAD"])


UNKNOWN = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_say(404, UNKNOWN), ImageNotFound),
        (_say(404, b"<html>default backend - 404</html>"), RegistryError),
        (_say(200, b"<html>welcome</html>"), RegistryError),
        (_say(403, b"no"), RegistryError),
        (_say(200, b"", Docker_Content_Digest="sha256:0"), Unresolved),
    ],
    ids=["registry", "gateway", "site", "refusal", "there"],
)
def test_a_404_that_the_engine_was_given(answer: Answer, kind: type[Exception]) -> None:
    """containerd says the same of each: whether it was the registry's own, it is asked."""
    with _registry(answer) as host:
        image = f"{host}/a/b:1"

        class Api:
            def inspect_image(self, name: str) -> Any:
                raise docker.errors.NotFound("no such image")

            def pull(self, repository: str, **options: Any) -> list[dict[str, str]]:
                return [{"error": f'failed to resolve reference "{image}": {image}: not found'}]

        engine = Engine.__new__(Engine)
        engine.api, engine.url, engine.pulls = Api(), host, 1
        engine._registries, engine._unreachable = {}, {}
        with pytest.raises((ImageNotFound, RegistryError)) as caught:
            engine.image(ImageRequest(image))
    assert type(caught.value) is kind


def test_what_is_kept_of_an_image() -> None:
    """A few hundred bytes, whatever its configuration says: there are ten thousand of them."""
    long = "v" * (1 << 20)
    manifest = {"config": {"digest": "sha256:aa"}, "mediaType": registries.MANIFESTS[0]}
    about = {"os": "linux", "architecture": "amd64", "variant": long, "config": {"User": long}}

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        _say(200, json.dumps(manifest if "/manifests/" in request.path else about).encode())(request)

    with _registry(answer) as host:
        registry_lookup = RegistryLookup()
        image = registry_lookup.image(ImageRequest(f"{host}/a:1"))
        assert image.platform.startswith("linux/amd64/v") and len(image.platform) < 300 and len(image.user) == 200
        manifest["config"] = {"digest": f"sha256:{long}"}
        with pytest.raises(RegistryError, match="unknown kind of manifest"):
            registry_lookup.image(ImageRequest(f"{host}/b:1"))
        registry_lookup.close()


def test_a_catalogue_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "NAMES", 1000)
    pages = [0]

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if "/tags/" in request.path:
            _say(200, json.dumps({"tags": [f"t{number}" for number in range(100)]}).encode())(request)
            return
        pages[0] += 1
        names = [f"a{pages[0]}/b{number}" for number in range(400)] + ["x" * 1000]
        # Fewer than may be, the first time: then it is the tags that are too many.
        link = {} if pages[0] == 1 else {"Link": f'</v2/_catalog?n=1&p={pages[0]}>; rel="next"'}
        _say(200, json.dumps({"repositories": names}).encode(), **link)(request)

    with _registry(answer) as host:
        assert len(list(Client(host).repositories())) == 400
        with pytest.raises(RegistryError, match="more than 1,000 names"):
            list(Client(host).repositories())
        assert pages[0] == 4
        pages[0] = 0
        with pytest.raises(RegistryError, match="more than 1,000 names"):
            list(load(Source(f"registry://{host}")))


def test_an_importer_tells_of_it() -> None:
    with _registry(_say(401, WWW_Authenticate='Bearer realm="http://["')) as host, pytest.raises(RegistryError):
        list(load(Source(f"registry://{host}")))
