"""The cleanroom: the proof and what voids it, the relay and the bridge, agents that try to leave."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from examples import images
from taskgate.harness.base.errors import IsolationError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.sandbox.isolation.endpoint import Endpoint
from taskgate.harness.sandbox.isolation.prover import Prover, problems
from taskgate.harness.sandbox.isolation.relay_link import KEY, RelayLink
from taskgate.harness.sandbox.isolation.tools import Tools
from tests import engines
from tests.conftest import Gate
from tests.library import running as container_of
from tests.running import Run
from tests.sandbox.cleanroom import ECHO, RUNTIME, SESSION, inside, tools, until_served, upstream

__all__ = ["inside", "tools", "upstream"]


@pytest.fixture(scope="module")
def prover(tools: Tools) -> Iterator[Prover]:
    made = Prover(Engine, lambda: tools, SESSION)
    yield made
    made.close()


@pytest.fixture(scope="module")
def demo(client: Any) -> str:
    """The demo's sound image, in which the demo agent is."""
    images.demo(client)
    return "taskgate-demo/sound:1"


def test_a_container_without_a_network_is_proven(
    client: Any, engine: Engine, sound: str, prover: Prover, tools: Tools
) -> None:
    with container_of(client, sound, network_mode="none") as container:
        seen = prover.prove(engine, container.id)
    assert seen["inside"]["interfaces"] == ["lo"] and not seen["inside"]["routes"] and not seen["inside"]["canary"]
    # The very same targets, reached by an ordinary container.
    assert seen["control"]["tcp"].keys() == seen["inside"]["tcp"].keys()
    assert "connected" in seen["control"]["tcp"].values() and "connected" not in seen["inside"]["tcp"].values()
    assert {one["by"] for one in seen["control"]["canary"]} == {"tcp", "udp"}
    assert any(where.startswith("169.254.169.254") for where in seen["inside"]["tcp"])
    assert any(where.startswith("127.0.0.11") for where in seen["inside"]["udp"])


@pytest.mark.parametrize("network", ["bridge", "host", "internal", "later"])
def test_what_is_not_cut_off(client: Any, engine: Engine, sound: str, prover: Prover, network: str) -> None:
    made: Any = None
    if network in ("internal", "later"):
        made = client.networks.create(f"taskgate-test-{ownership.new_session()}", internal=True)
    try:
        mode = {"internal": made.name if made else "", "later": "none"}.get(network, network)
        with container_of(client, sound, network_mode=mode) as container:
            if network == "later":
                prover.prove(engine, container.id)
                with contextlib.suppress(docker.errors.APIError):
                    # Docker refuses this, by the way; then there is nothing to see.
                    made.connect(container)
                    with pytest.raises(IsolationError, match="is not cut off"):
                        prover.prove(engine, container.id)
                return
            with pytest.raises(IsolationError, match="is not cut off") as caught:
                prover.prove(engine, container.id)
        assert caught.value.evidence
        inside = caught.value.evidence["inside"]
        # An internal network has no way to the world; the canary on the host is reached all the same.
        assert "connected" in inside["tcp"].values() and inside["canary"]
    finally:
        if made:
            made.remove()


def test_every_sign_counts() -> None:
    clean: dict[str, Any] = {
        "interfaces": ["lo"], "routes": [], "routes6": [], "addresses6": [], "canary": [],
        "tcp": {"a port 1": "OSError: unreachable"}, "udp": {"a port 1": "TimeoutError: timed out"},
    }  # fmt: skip
    assert problems(clean) == []
    changes: tuple[dict[str, Any], ...] = (
        {"interfaces": ["eth0", "lo"]},
        {"interfaces": []},
        {"routes": [["eth0", "0"]]},
        {"routes6": [["0", "eth0"]]},
        {"addresses6": [["0", "eth0"]]},
        {"tcp": {"a port 1": "connected"}},
        {"udp": {"a port 1": "answered"}},
        {"canary": [{"by": "udp", "from": "10.0.0.1"}]},
    )
    for change in changes:
        assert len(problems({**clean, **change})) == 1


def test_no_control_no_proof(gate: Gate, tmp_path: Path) -> None:
    """On an engine without a bridge nothing shows that the canaries hear: not proven, and nobody's fault."""
    with engines.dockerd() as daemon:
        client = docker.DockerClient(base_url=daemon.url)
        files = {"bin/sh": Path("/bin/busybox").read_bytes()}
        small = images.load(client, "small:1", files, client.version()["Arch"], {"bin/sh": 0o755})
        client.close()
        text = f"version: 1\ndefaults: {{pull: never, network: none}}\ntasks:\n- {{id: one, image: '{small}'}}\n"
        run = gate(text, f"--docker-host={daemon.url}", "--checks=network")
    assert run.status == 10 and run.tasks["one"]["verdict"] == "infra", run.output
    assert run.listed == set()


def test_the_check(gate: Gate, sound: str, tools: Tools) -> None:
    head = "version: 1\ndefaults: {repo_path: /testbed, pull: never}\ntasks:\n"
    run = gate(head + f"- {{id: cut, image: '{sound}', network: none}}\n- {{id: open, image: '{sound}'}}\n", "-n", "2")
    assert run.status == 0, run.output
    said = {
        name: next(finding for finding in task["findings"] if finding["check"] == "network")
        for name, task in run.tasks.items()
    }
    assert said["cut"]["outcome"] == "pass" and said["open"]["reason"] == "the manifest asks for no isolation"


# The way in and the way out.


def test_the_way_in(inside: Any, client: Any) -> None:
    cell = inside(port=8000)
    cell.python(ECHO, detach=True)
    room = cell.room
    assert "X-Taskgate-Key" not in until_served(room).text, "the key is not the agent's to know"
    sent = requests.post(f"{room.url}/a?b=c", headers=room.headers, data=b"x" * 3_000_000, timeout=30)
    assert sent.text.startswith("/a?b=c ") and sent.text.endswith(" 3000000")
    for wrong in ({}, {KEY: "no"}, {KEY: room.key[:-1]}, {KEY: f"{room.key}, {room.key}"}):
        refused = requests.get(room.url + "/", headers=wrong, timeout=10)
        assert refused.status_code == 403 and "key" in refused.json()["error"]
    # Published on the loopback interface alone; the bridge's other containers find a closed door.
    relay = client.containers.get(room._relay.id)
    assert {port["HostIp"] for port in relay.attrs["NetworkSettings"]["Ports"]["8080/tcp"]} == {"127.0.0.1"}
    address = relay.attrs["NetworkSettings"]["IPAddress"]
    with container_of(client, images.BASE) as peer:
        fetch = f"import urllib.request; urllib.request.urlopen('http://{address}:8080/')"
        assert b"HTTP Error 403" in peer.exec_run(["python3", "-c", fetch]).output
    # Its key is nowhere to be read.
    assert room.key not in json.dumps(relay.attrs)


def test_damaged_requests(inside: Any) -> None:
    room = inside(port=8000).room
    host, port = "127.0.0.1", int(room.url.rpartition(":")[2])
    for data in (
        b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
        b"\0" * 9,
    ):
        with socket.create_connection((host, port), 10) as made:
            made.sendall(data)
            made.shutdown(socket.SHUT_WR)
            assert made.recv(100)[:12] in (b"HTTP/1.1 400", b"")
    # Behind it is no server yet; the relay lives.
    assert requests.get(room.url, headers=room.headers, timeout=10).json() == {"error": "the server hung up"}
    assert requests.get(room.url, timeout=10).status_code == 403


def test_a_planted_link_leads_nowhere(inside: Any, upstream: tuple[int, list[dict[str, Any]]]) -> None:
    """The agent is root in its container and puts a link to another socket where its server's should be."""
    port, asked = upstream
    cell = inside(port=8000, endpoint=Endpoint(f"http://host.docker.internal:{port}"))
    said = cell.python(
        "import os; os.chdir('/.taskgate-relay'); os.unlink('in'); os.symlink('out', 'in'); print(os.listdir('.'))"
    )
    assert "'in'" in said
    answer = requests.get(cell.room.url + "/", headers=cell.room.headers, timeout=10)
    assert answer.status_code == 502 and asked == []


def test_the_way_out(inside: Any, upstream: tuple[int, list[dict[str, Any]]]) -> None:
    port, asked = upstream
    cell = inside(
        endpoint=Endpoint(f"http://host.docker.internal:{port}/v1", {"Authorization": "Bearer hidden"}), calls=3
    )
    url = cell.room.environment["TASKGATE_ENDPOINT"]
    said = cell.python(f"""
import http.client, urllib.request, urllib.error
def ask(path, **more):
    try:
        print(path, urllib.request.urlopen(urllib.request.Request({url!r} + path, **more)).read())
    except urllib.error.HTTPError as error:
        print(path, error.code, error.read())
ask("/chat", data=b"question", headers={{"Authorization": "Bearer mine", "Host": "elsewhere"}})
ask("/../admin")
ask("/%2e%2e/admin")
ask("/%252e%252e/admin")
made = http.client.HTTPConnection("127.0.0.1", 8399)
made.request("POST", "/chunked", body=iter([b"one", b"two"]), encode_chunked=True, headers={{"Transfer-Encoding": "chunked"}})
print(made.getresponse().read())
ask("/third")
ask("/fourth")
""")
    lines = said.splitlines()
    assert lines[0] == "/chat b'hello'"
    assert all(" 403 " in line for line in lines[1:4]), said
    assert lines[4] == "b'hello'" and lines[5] == "/third b'hello'"
    assert lines[6].startswith("/fourth 429") and "3 calls is used up" in lines[6]
    assert [one["path"] for one in asked] == ["/v1/chat", "/v1/chunked", "/v1/third"]
    assert asked[0]["headers"]["Authorization"] == "Bearer hidden" and asked[0]["body"] == "question"
    assert asked[0]["headers"]["Host"] == f"host.docker.internal:{port}"
    assert asked[1]["body"] == "onetwo"
    cell.room.sync()
    assert cell.room.calls == 3


def test_one_call_is_one_call(inside: Any, upstream: tuple[int, list[dict[str, Any]]]) -> None:
    """What comes after a request on the same connection, or in two readings of one, is not passed on."""
    port, asked = upstream
    cell = inside(endpoint=Endpoint(f"http://host.docker.internal:{port}"), calls=2)
    hidden = "POST /second HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n"
    raw = [
        "POST /first HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\nok" + hidden,
        "POST /b HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n"
        + hidden,
        "POST /c HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\nContent-Length: 9\\r\\n\\r\\nok" + hidden,
        "CONNECT 1.2.3.4:80 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
        "GET http://elsewhere/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
        "GET /ws HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n",
    ]
    sources = "".join(
        f"s=socket.create_connection(('127.0.0.1', 8399)); s.sendall(b'{one}')\n"
        "got=b''\nwhile piece := s.recv(9999): got += piece\nprint(got[:12], got.count(b'HTTP/1.1'))\n"
        for one in raw
    )
    said = cell.python("import socket\n" + sources).splitlines()
    assert said[0] == "b'HTTP/1.1 200' 1", said
    assert [line[:14] for line in said[1:]] == ["b'HTTP/1.1 400"] * 2 + ["b'HTTP/1.1 403"] * 3
    cell.room.sync()
    assert [one["path"] for one in asked] == ["/first"] and cell.room.calls == 1


ESCAPE = """
import glob, json, os, socket, struct, subprocess, sys
tried = {}
def attempt(name, act):
    try:
        tried[name] = "GOT OUT: " + str(act())[:200]
    except Exception as error:
        tried[name] = type(error).__name__ + ": " + str(error)
def tcp(address, port):
    with socket.create_connection((address, port), 2) as made:
        return made.getpeername()
def udp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(1)
        made.sendto(b"hello", (address, port))
        return made.recvfrom(512)
def raw():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
        made.bind(("eth0", 0))
        return made.send(b"x" * 60)
def unix(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(2)
        made.connect(path)
        return "connected"
def link():
    return subprocess.run(["ip", "link", "add", "v0", "type", "veth"], check=True)
for address in TARGETS:
    for port in (22, 53, 80, 443, 2375, PORT):
        attempt(f"tcp {address}:{port}", lambda: tcp(address, port))
    attempt(f"udp {address}", lambda: udp(address, PORT))
attempt("dns 127.0.0.11", lambda: udp("127.0.0.11", 53))
attempt("resolve", lambda: socket.getaddrinfo("example.org", 80))
attempt("resolve host", lambda: socket.getaddrinfo("host.docker.internal", 80))
attempt("raw", raw)
attempt("link", link)
attempt("engine", lambda: unix("/var/run/docker.sock"))
attempt("netns", lambda: os.setns(os.open("/proc/1/ns/net", 0), 0) or tcp(TARGETS[0], PORT))
attempt("unshare", lambda: os.unshare(0x40000000) or tcp(TARGETS[0], PORT))
for path in glob.glob("/.taskgate-relay/*"):
    tried["socket " + path] = "is there"
out = os.environ["TASKGATE_OUT"]
task = os.environ["TASKGATE_TASK_ID"]
json.dump({"task_id": task, "steps": [tried]}, open(out + "/trajectory.json", "w"))
json.dump({"task_id": task, "answer": "x"}, open(out + "/prediction.json", "w"))
"""


@pytest.mark.parametrize("endpoint", [False, True], ids=["alone", "with-an-endpoint"])
def test_an_agent_that_tries_to_leave(
    tmp_path: Path, sound: str, client: Any, tools: Tools, upstream: tuple[int, list[Any]], endpoint: bool
) -> None:
    port, asked = upstream
    gateways = [
        config["Gateway"]
        for network in client.networks.list()
        for config in (network.attrs["IPAM"]["Config"] or ())
        if config.get("Gateway")
    ]
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        made.connect(("192.0.2.1", 9))
        own = made.getsockname()[0]
    run = Run(tmp_path)
    text = "version: 1\ndefaults: {repo_path: /testbed, pull: never, network: none}\ntasks:\n"
    text += f"- {{id: out, image: '{sound}', agent: {{run: [sh, -c, 'python3 $TASKGATE_IN/escape.py']}}}}\n"
    (tmp_path / "in/out").mkdir(parents=True)
    more = [f"--endpoint=http://host.docker.internal:{port}"] if endpoint else []
    # Another container that serves, on the bridge where the relay is as well.
    with container_of(client, sound, entrypoint=["python3", "-m", "http.server", str(port)]) as peer:
        peer.reload()
        address = peer.attrs["NetworkSettings"]["IPAddress"]
        targets = [*gateways, own, address, "169.254.169.254", "192.0.2.7", "::1", "fe80::1", "2001:db8::1"]
        (tmp_path / "in/out/escape.py").write_text(f"TARGETS = {targets!r}\nPORT = {port}\n" + ESCAPE)
        ran = run(text, "--inputs=in", *more)
        assert requests.get(f"http://{address}:{port}/", timeout=10).ok, "from the host the other one is reached"
    assert ran.status == 0, ran.output
    tried = json.loads((run.out / "out/trajectory.json").read_text())["steps"][0]
    assert len(tried) > 40
    assert {name: said for name, said in tried.items() if said.startswith("GOT OUT")} == {}
    assert asked == []
    evidence = json.loads((run.out / "out/isolation.json").read_text())
    assert problems(evidence["inside"]) == [] and evidence["control"]["canary"]


def test_a_run_that_can_not_be_proven_is_not_begun(tmp_path: Path, tools: Tools) -> None:
    with engines.dockerd() as daemon:
        client = docker.DockerClient(base_url=daemon.url)
        files = {"bin/sh": Path("/bin/busybox").read_bytes(), "tmp/x": b"", "workspace/x": b""}
        small = images.load(client, "small:1", files, client.version()["Arch"], {"bin/sh": 0o755})
        client.close()
        run = Run(tmp_path)
        off = ["git_available", "git_repo", "git_commit", "git_future", "python_available", "network"]
        checks = "{" + ", ".join(f"{name}: off" for name in off) + "}"
        text = f"version: 1\ntasks:\n- {{id: a, image: '{small}', pull: never, network: none, checks: {checks}, "
        text += "agent: {run: [/bin/sh, -c, 'echo begun >/begun']}}\n"
        ran = run(text, f"--docker-host={daemon.url}", "--retries=0")
    assert ran.status == 10 and ran.told() == {"a": "infra"}, ran.output
    assert (run.out / "a/agent.log").read_text() == ""


# Server agents.


def _served(image: str, *rows: str, more: str = "") -> str:
    head = "version: 1\ndefaults: {repo_path: /testbed, pull: never, network: none" + more
    head += ", agent: {server: [python3, -m, agent, --serve]}}\ntasks:\n"
    return head + "".join(f"- {{id: {row}, image: '{image}'}}\n" for row in rows)


def test_a_server_agent(tmp_path: Path, demo: str, tools: Tools, upstream: tuple[int, list[Any]]) -> None:
    port, asked = upstream
    run = Run(tmp_path)
    text = _served(demo, "cut", "open, network: bridge", "user, user: dev, workdir: /home/dev, checks: {workdir: off}")
    text += f"- {{id: brought, image: taskgate-demo/no-python:1, runtime: {json.dumps(RUNTIME)}}}\n"
    ran = run(text, f"--endpoint=http://host.docker.internal:{port}/v1", "--calls=5")
    assert ran.status == 0, ran.output
    for task in ("cut", "open", "brought"):
        assert "return a + b" in json.loads((run.out / task / "prediction.json").read_text())["model_patch"]
        assert ran.result(task)["calls"] == 1
        assert "POST /run" in (run.out / task / "agent.log").read_text()
        assert (run.out / task / "isolation.json").exists() is (task != "open")
    assert {one["path"] for one in asked} == {"/v1/ask"}


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("[python3, -c, 'raise SystemExit(4)']", "the server ended with status 4 before it was ready"),
        ("[no-such-program]", "agent_start: the server can't be started: no-such-program is not on PATH"),
        (
            "[python3, -c, \"import agent; agent.Handler.do_POST = lambda self: self._answer(500, {'e': 1}); agent.main()\","
            " --serve]",
            'the server answers /run with 500: {"e": 1}',
        ),
        (
            '[python3, -c, "import agent, os; agent.Handler.do_POST = lambda self: os._exit(9); agent.main()", --serve]',
            'the server answers /run with 502: {"error": "the server hung up"}',
        ),
        (
            '[python3, -c, "import agent, time; agent.Handler.do_POST = lambda self: time.sleep(99); agent.main()", --serve]',
            "the agent ran out of its 4 s: there is no trajectory.json",
        ),
    ],
    ids=["ends", "missing", "refuses", "dies", "hangs"],
)
def test_servers_that_fail(tmp_path: Path, demo: str, tools: Tools, server: str, reason: str) -> None:
    run = Run(tmp_path)
    text = _served(demo, "a").replace("[python3, -m, agent, --serve]", server)
    ran = run(text, "--time=4")
    assert reason in ran.output, ran.output
    # One that never starts is the gate's to find, before any budget is spent.
    expected = 0 if "SKIP (validation failed)" in ran.output else 1
    assert ran.status == expected


def test_nothing_is_left(tools: Tools, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(IsolationError, match=r"relay.py has ended: .*cadata"):
        RelayLink(engine, tools, SESSION, port=1, endpoint=Endpoint("https://x"), calls=None, seconds=60)
    assert [one for one in engine.volumes("taskgate") if one[1]["taskgate.session"] == SESSION] == []
