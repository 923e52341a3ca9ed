"""What a registry says, and whose fault that is: only an image that it does not have is broken."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from examples import images
from taskgate.checks import _registry as checks
from taskgate.harness.base.errors import ImageNotFound, NoSpace, PlatformUnavailable, RegistryError, Unresolved
from taskgate.harness.engine import classification, ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate import gate as gate_module
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.tasks.task import Task
from tests import registry
from tests.conftest import Gate


@pytest.fixture
def published(client: Any, port: int, proxy: registry.Proxy) -> Iterator[str]:
    """An image that only the registry has, down to its layers: a static busybox as its shell."""
    direct, name = f"127.0.0.1:{port}/demo/sound", f"127.0.0.1:{proxy.port}/demo/sound:v1"
    shell = Path("/bin/busybox").read_bytes()
    files = {"bin/sh": shell, "etc/unique": secrets.token_bytes(100_000)}
    images.load(client, f"{direct}:v1", files, client.version()["Arch"], {"bin/sh": 0o755})
    for line in client.api.push(direct, tag="v1", stream=True, decode=True):
        assert "error" not in line, line
    client.images.remove(f"{direct}:v1")
    yield name
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(name)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One try more is enough to see that there is one; the waiting in between is not what is tested here."""
    monkeypatch.setattr(gate_module, "TRIES", 2)
    monkeypatch.setattr(gate_module, "WAIT_SECONDS", 0.1)

    def judge(image: str, **task: Any) -> Record:
        wanted = checks.chosen(checks.load(), ["shell"])
        gate = gate_module.Gate(Engine, wanted, session=ownership.new_session())
        try:
            return gate.judge(Task(id="x", image=image, **task))
        finally:
            gate.close()

    return judge


def test_an_image_is_pulled(published: str, judge: Any) -> None:
    assert judge(published).verdict is Verdict.HEALTHY


def test_an_unknown_tag_or_name_is_broken(published: str, judge: Any) -> None:
    for image in (published.replace(":v1", ":latest"), published.replace("/demo/sound", "/demo/none")):
        record = judge(image)
        assert (record.verdict, record.check) == (Verdict.BROKEN, "image_exists"), record.reason
        assert record.digest is None


DENIED = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}).encode()
FAULTS = {
    "401": registry.answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'}, only="/v2/"),
    "403": registry.answer(403, body=DENIED),
    "404-of-something-else": registry.answer(404, body=b"<html>not here</html>"),
    "429": registry.answer(429, headers={"Retry-After": "1"}),
    "500": registry.answer(500),
    "503": registry.answer(503),
    "cut": registry.cut,
    "wrong-content": registry.answer(200, body=b"x" * 100, only="/blobs/"),
    "redirects": registry.answer(307, headers={"Location": "/v2/demo/sound/manifests/v1"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failing_registry_is_infra(published: str, judge: Any, proxy: registry.Proxy, name: str) -> None:
    proxy.fault = FAULTS[name]
    record = judge(published)
    assert (record.verdict, record.check) == (Verdict.INFRA, None), record.reason
    assert record.hint
    proxy.fault = None
    assert judge(published).verdict is Verdict.HEALTHY


@pytest.mark.parametrize("status", [429, 500])
def test_one_failure_is_tried_again(published: str, judge: Any, proxy: registry.Proxy, status: int) -> None:
    # The engine itself asks more than once in a try: HEAD, then GET.
    proxy.fault = registry.answer(status, times=2)
    assert judge(published).verdict is Verdict.HEALTHY


def test_no_registry_at_all(judge: Any) -> None:
    assert judge(f"127.0.0.1:{registry.free_port()}/demo/none:1").verdict is Verdict.INFRA


def test_a_platform_that_is_not_published_is_incompatible(published: str, judge: Any) -> None:
    record = judge(published, platform="linux/s390x")
    assert record.verdict is Verdict.INCOMPATIBLE, record.reason


def test_workers_pull_an_image_once(gate: Gate, published: str, proxy: registry.Proxy) -> None:
    rows = "".join(f"- {{id: t{n}, image: '{published}'}}\n" for n in range(8))
    run = gate(f"version: 1\ndefaults: {{repo_path: /testbed}}\ntasks:\n{rows}", "-n", "4", "--checks=shell")
    assert run.status == 0, run.output
    blobs = [path for method, path in proxy.seen if "/blobs/" in path and method == "GET"]
    assert len(blobs) == len(set(blobs))
    assert [path for method, path in proxy.seen if "/manifests/v1" in path].count("/v2/demo/sound/manifests/v1") <= 2


def test_no_verdict_is_lost_to_a_429(gate: Gate, published: str, proxy: registry.Proxy) -> None:
    proxy.fault = registry.answer(429)
    run = gate(f"version: 1\ntasks:\n- {{id: one, image: '{published}'}}\n", "-n", "1")
    assert run.status == 10 and run.tasks["one"]["verdict"] == "infra" and run.listed == set()
    assert run.verdicts["complete"] is False


@pytest.mark.parametrize(
    ("message", "image", "kind"),
    [
        ("manifest for h:42429/a/b:latest not found: manifest unknown", "h:42429/a/b:latest", ImageNotFound),
        ("manifest for denied/toomany:429 not found: manifest unknown", "denied/toomany:429", ImageNotFound),
        ("manifest for x@sha256:0429 not found: manifest unknown", "x@sha256:0429", ImageNotFound),
        ("manifest unknown, or pull access denied: docker login", "a/b:1", RegistryError),
        ("toomanyrequests: manifest unknown", "a/b:1", RegistryError),
        ("received unexpected HTTP status: 429 Too Many Requests", "a/b:1", RegistryError),
        ("something new", "a/b:1", RegistryError),
        ('failed to resolve reference "docker.io/a/b:1": docker.io/a/b:1: not found', "a/b:1", Unresolved),
        ('failed to resolve reference "h/denied:1": h/denied:1: not found', "h/denied:1", Unresolved),
        ("failed to resolve reference: pull access denied: not found", "a/b:1", RegistryError),
        ("no matching manifest for linux/arm64", "a/b:1", PlatformUnavailable),
        ("write /x: no space left on device", "a/b:1", NoSpace),
    ],
)
def test_what_a_pull_says(message: str, image: str, kind: type[Exception]) -> None:
    assert type(classification.of_pull(message, image)) is kind
