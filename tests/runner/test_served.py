"""Server agents and endpoints in whole runs: whose failure it was, what is written down, and what is kept out of it."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests.running import Run
from tests.sandbox.cleanroom import tools, upstream

__all__ = ["tools", "upstream"]

CALLING = """
import json, os, sys, time, urllib.request, urllib.error
act, out = os.environ["TASKGATE_TASK_ID"].partition("-")[0], os.environ["TASKGATE_OUT"]
def call(path):
    try:
        return urllib.request.urlopen(os.environ["TASKGATE_ENDPOINT"] + path, b"{}", timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
print(call("/chat?api_key=in-the-query"), flush=True)
status = {"down": 503, "denied": 401, "limited": 429, "recovers": 500, "wrong": 400}.get(act)
if status:
    print(call(f"/status/{status}"), flush=True)
if act == "recovers":
    call("/chat")
if act in ("waits", "none"):
    time.sleep(60 if act == "waits" else 0)
if act in ("fine", "recovers"):
    for name in ("trajectory", "prediction"):
        with open(f"{out}/{name}.json", "w") as file:
            json.dump({"task_id": os.environ["TASKGATE_TASK_ID"], "steps": [1], "model_patch": "x"}, file)
else:
    sys.exit(1)
"""


def manifest(image: str, *ids: str) -> str:
    text = (
        "version: 1\ndefaults: {repo_path: /testbed, pull: never, network: none, checks: {network: off}, agent: {run: "
    )
    text += "[sh, -c, 'exec python3 $TASKGATE_IN/calling.py']}}\ntasks:\n"
    return text + "".join(f"- {{id: {task}, image: '{image}'}}\n" for task in ids)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    for task in ("down", "denied", "limited", "recovers", "wrong", "fine", "waits", "none"):
        (tmp_path / "in" / task).mkdir(parents=True)
        (tmp_path / "in" / task / "calling.py").write_text(CALLING)
    yield Run(tmp_path)


def test_what_an_endpoint_does_is_never_the_agents_failure(
    run: Run, sound: str, tools: Any, upstream: tuple[int, list[Any]]
) -> None:
    ids = ("down", "denied", "limited", "recovers", "wrong", "fine", "none")
    ran = run(
        manifest(sound, *ids), "--inputs=in", f"--endpoint=http://host.docker.internal:{upstream[0]}/v1", "--retries=0",
        "--endpoint-header=Authorization: Bearer {TOKEN}", env={"TOKEN": "token-secret-4711"},
    )  # fmt: skip
    assert ran.told() == {
        "down": "infra", "denied": "infra", "limited": "infra", "recovers": "done", "wrong": "failed", "fine": "done",
        "none": "failed",
    }, ran.output  # fmt: skip
    assert "the endpoint answered POST /status/503 with status 503" in ran.result("down")["reason"]
    calls = [json.loads(line) for line in (run.out / "recovers/calls.jsonl").read_text().splitlines()]
    assert [(call["path"], call["status"]) for call in calls] == [("/chat", 200), ("/status/500", 500), ("/chat", 200)]
    assert ran.result("recovers")["calls"] == 3 and {"time", "milliseconds", "bytes"} <= calls[0].keys()
    for path in run.out.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert "token-secret" not in text and "in-the-query" not in text, path


def test_an_endpoint_that_is_not_there(run: Run, sound: str, tools: Any) -> None:
    ran = run(manifest(sound, "none"), "--inputs=in", "--endpoint=http://host.docker.internal:9", "--retries=0")
    assert ran.told() == {"none": "infra"} and "the endpoint does not answer" in ran.result("none")["reason"]


@pytest.mark.parametrize("served", [False, True], ids=["command", "server"])
def test_a_relay_that_dies_is_infra(
    run: Run, sound: str, client: Any, tools: Any, upstream: tuple[int, list[Any]], served: bool
) -> None:
    images.demo(client)
    text = manifest(sound, "waits")
    if served:
        text = text.replace(sound, "taskgate-demo/sound:1").replace(
            "{run: [sh, -c, 'exec python3 $TASKGATE_IN/calling.py']}",
            '{server: [python3, -c, "import agent, time; agent.Handler.do_POST = lambda self: time.sleep(99); '
            'agent.main()", --serve]}',
        )
    argv = run.argv(
        text, "--inputs=in", "--retries=0", f"--endpoint=http://host.docker.internal:{upstream[0]}", "--time=90"
    )
    process = subprocess.Popen(argv, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        relay = _relay_of(client, process.pid, run, served)
        client.api.kill(relay)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    result = run.result_of("waits")
    assert result["status"] == "infra" and "relay.py has ended" in result["reason"], output.decode()


def _relay_of(client: Any, pid: int, run: Run, served: bool) -> str:
    """The relay's container, once the agent is at work."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        logs = [path.read_text() for path in run.out.glob(".running/*/agent.log")]
        if any("GET /health" in text if served else "200" in text for text in logs):
            # Let a server be given its task.
            time.sleep(1)
            for row in client.api.containers(filters={"label": f"taskgate.pid={pid}"}):
                if "relay.py" in "".join(client.api.inspect_container(row["Id"])["Config"]["Entrypoint"]):
                    return str(row["Id"])
        time.sleep(0.2)
    raise AssertionError("there is no relay")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://localhost", "http://[::1]:8000", "http://127.1:1"]
)
def test_a_loopback_endpoint_is_refused_at_the_start(run: Run, sound: str, url: str) -> None:
    ran = run(manifest(sound, "fine"), "--inputs=in", f"--endpoint={url}")
    assert ran.status == 4 and "host.docker.internal" in ran.output and "--endpoint" in ran.output, ran.output
    assert not run.out.exists()


def test_the_hint_works(run: Run, sound: str, tools: Any) -> None:
    """A service on this machine that listens on all of its addresses, on another network than none as well."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for network in ("none", "bridge", "host"):
            text = manifest(sound, "fine").replace("network: none", f"network: {network}")
            ran = run(
                text, "--inputs=in", f"--endpoint=http://host.docker.internal:{server.server_address[1]}", "--redo"
            )
            assert ran.told() == {"fine": "done"}, f"{network}: {ran.output}"
    finally:
        server.shutdown()
        server.server_close()
