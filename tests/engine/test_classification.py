"""What the answers of engines and registries mean: whose fault, and whether another try makes sense."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest
import requests

from taskgate.checks._registry import chosen, load
from taskgate.harness.base.errors import (
    EngineUnavailable,
    ImageNotFound,
    InfraError,
    NotOnHost,
    RegistryError,
)
from taskgate.harness.engine import classification, connection, last_answer, ownership, sdk
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.registries.reference import Reference
from taskgate.harness.engine.registries.registry_client import Client
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.tasks.task import Task
from tests.registry import free_port

# In the words of Docker 20 to 28, containerd and Podman.
PERMANENT = [
    "unexpected status from HEAD request to https://h/v2/a/b/manifests/1: 400 Bad Request",
    "received unexpected HTTP status: 400 Bad Request",
    "invalid reference format",
    "unsupported manifest media type and no default available: application/vnd.oci.empty.v1+json",
    'Encountered remote "application/vnd.oci.artifact.manifest.v1+json"(unknown) when fetching',
    "mediaType in manifest should be 'application/vnd.docker.distribution.manifest.v2+json' not 'x': unsupported",
    "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled by default and will be",
    "failed to register layer: max depth exceeded",
    "failed to register layer: unsupported compression",
    "archive/tar: invalid tar header",
    "determining manifest MIME type for docker://h/a/b:1: unsupported MIME type",
    "unimplemented, unrecognized manifest schema version 3: unknown",
]
DENIED = [
    "pull access denied for a/b, repository does not exist or may require 'docker login': denied: requested access",
    'Head "https://h/v2/a/b/manifests/1": unauthorized: authentication required',
    "unexpected status from HEAD request to https://h/v2/a/b/manifests/1: 403 Forbidden",
    "Error response from daemon: Head: no basic auth credentials",
    'denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on resource',
    "initializing source docker://h/a/b:1: reading manifest 1 in h/a/b: unauthorized",
]
TRANSIENT = [
    "toomanyrequests: You have reached your unauthenticated pull rate limit",
    "toomanyrequests: denied",
    "received unexpected HTTP status: 500 Internal Server Error",
    "received unexpected HTTP status: 503 Service Unavailable",
    "net/http: TLS handshake timeout",
    "unexpected EOF",
    "open /var/lib/docker/tmp/x: permission denied",
    "filesystem layer verification failed for digest sha256:0429",
]


@pytest.mark.parametrize("message", PERMANENT)
def test_an_answer_that_will_not_change_is_asked_for_once(message: str) -> None:
    error = classification.of_pull(message, "h/a/b:1")
    assert type(error) is RegistryError and not error.transient and "docker login" not in str(error)


@pytest.mark.parametrize("message", DENIED)
def test_a_refusal_is_asked_for_once_and_says_what_to_do(message: str) -> None:
    error = classification.of_pull(message, "h:5000/a/b:1")
    assert type(error) is RegistryError and not error.transient
    assert "names that do not exist as well" in str(error) and "`docker login h:5000`" in str(error)


@pytest.mark.parametrize("message", TRANSIENT)
def test_what_may_pass_is_tried_again(message: str) -> None:
    error = classification.of_pull(message, "h/a/b:1")
    assert type(error) is RegistryError and error.transient and error.patience is None


def test_the_hub_has_a_login_of_its_own() -> None:
    assert "`docker login`" in str(classification.of_pull(DENIED[0], "a/b:1"))


@pytest.mark.parametrize("image", ["a:1", "m", "denied:1", "h:401/denied/toomany:429", "h/unsupported/manifest:400"])
def test_a_name_says_nothing(image: str) -> None:
    assert type(classification.of_pull(f"manifest for {image} not found: manifest unknown", image)) is ImageNotFound


def test_a_registry_that_refuses_connections_is_not_waited_for() -> None:
    error = classification.of_pull('Get "http://h/v2/": dial tcp 127.0.0.1:9: connect: connection refused', "h/a:1")
    assert isinstance(error, RegistryError) and error.transient and error.patience == 3.0


def test_a_refused_connection_in_words() -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(f"http://127.0.0.1:{free_port()}/", timeout=5)
    assert classification.reason_of(caught.value) == "connection refused"


def test_a_refused_registry_costs_seconds() -> None:
    """Each of many questions, asked together."""
    host, begun = f"127.0.0.1:{free_port()}", time.monotonic()
    lookup = RegistryLookup()
    requests_ = [ImageRequest(f"{host}/a:{number}") for number in range(50)]
    lookup.expect(requests_)
    for request in requests_:
        with pytest.raises(RegistryError, match=rf"{host}: connection refused \(tried \d times\)"):
            lookup.image(request)
    lookup.close()
    assert time.monotonic() - begun < 5


def test_closing_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("127.0.0.1:1")
    monkeypatch.setattr(client, "_send", lambda *_: (_ for _ in ()).throw(requests.ConnectionError("reset")))
    client.close()
    begun = time.monotonic()
    with pytest.raises(RegistryError, match="no longer asked"):
        client.exists(Reference.parse("127.0.0.1:1/a:1"))
    assert time.monotonic() - begun < 1


def test_an_image_that_may_not_be_pulled(engine: Engine) -> None:
    with pytest.raises(NotOnHost, match="is not on this host, and `pull: never`") as caught:
        engine.image(ImageRequest("taskgate-test/not-there:1", pull="never"))
    assert isinstance(caught.value, InfraError) and not caught.value.transient


def test_an_engine_that_never_was_there_is_not_waited_for() -> None:
    with pytest.raises(EngineUnavailable, match="no engine answers: no such file") as caught:
        Engine("unix:///nonexistent/taskgate.sock")
    assert caught.value.transient and caught.value.patience == connection.NEVER_SEEN_SECONDS


def test_a_host_that_accepts_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote engine that is switched off: nobody answers at all."""
    monkeypatch.setattr(sdk, "CONNECT_SECONDS", 0.5)
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        begun = time.monotonic()
        with pytest.raises(EngineUnavailable, match="no engine answers: the connection timed out") as caught:
            Engine(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    assert time.monotonic() - begun < 10 and caught.value.patience == connection.NEVER_SEEN_SECONDS


def test_a_dead_engine_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by each worker's gate, for each image and at the cleanup."""
    url = f"unix://{tmp_path}/engine.sock"
    with pytest.raises(EngineUnavailable):
        Engine(url)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/engine.sock")
        listener.listen()
        listener.settimeout(0.2)
        with pytest.raises(EngineUnavailable, match="no such file"):
            Engine(url)
        with pytest.raises(TimeoutError):
            listener.accept()
    monkeypatch.setattr(last_answer, "_unreachable", {})
    with pytest.raises(EngineUnavailable, match="connection refused"):
        Engine(url)


def test_a_gate_does_not_wait_for_a_dead_engine() -> None:
    begun = time.monotonic()
    gate = Gate(
        lambda: Engine("unix:///nonexistent/taskgate.sock"), chosen(load(), ["shell"]), session=ownership.new_session()
    )
    try:
        for number in range(3):
            record = gate.judge(Task(id=f"t{number}", image="demo/a:1"))
            assert record.verdict is Verdict.INFRA and "no such file" in str(record.reason)
    finally:
        gate.close()
    assert time.monotonic() - begun < 3


def test_a_dead_registry_is_waited_for_once(engine: Engine) -> None:
    """The first image that it should have costs some seconds, all others one try each."""
    host = f"127.0.0.1:{free_port()}"
    gate = Gate(lambda: Engine(), chosen(load(), ["shell"]), session=ownership.new_session())
    seconds = []
    try:
        for number in range(5):
            begun = time.monotonic()
            record = gate.judge(Task(id=f"t{number}", image=f"{host}/demo/a{number}:1"))
            assert record.verdict is Verdict.INFRA and "connection refused" in str(record.reason), record.reason
            seconds.append(time.monotonic() - begun)
    finally:
        gate.close()
    assert seconds[0] >= 3.0 > max(seconds[1:]) and sum(seconds[1:]) < seconds[0], seconds


def test_one_that_was_there_is_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert last_answer.is_recent(engine.url)
    monkeypatch.setattr(last_answer, "_answered", set())
    assert last_answer.is_recent(engine.url), "another process would know it, too"
    monkeypatch.setattr(last_answer, "RECENT_SECONDS", -1.0)
    assert not last_answer.is_recent(engine.url)
    last_answer.note("unix:///nonexistent/taskgate-2.sock")
    with pytest.raises(EngineUnavailable) as caught:
        Engine("unix:///nonexistent/taskgate-2.sock")
    assert caught.value.patience is None
