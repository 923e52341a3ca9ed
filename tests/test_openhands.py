"""OpenHands' agent-server in the cleanroom, as in examples/openhands: a conversation with a stand-in model."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from examples.openhands import build
from tests.conftest import CLONE
from tests.running import Run

EXAMPLE = CLONE / "examples/openhands"


@pytest.fixture(scope="module")
def image(client: Any) -> str:
    """Fails where the packages can't be installed; skips only where no registry answers."""
    images.base(client, "trixie")
    try:
        return build.build(client)
    except build.NoRegistry as error:
        pytest.skip(f"no package registry can be reached: {error}"[-300:])


@pytest.fixture
def model() -> Iterator[int]:
    with socket.create_server(("", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, EXAMPLE / "model.py", str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_conversation(tmp_path: Path, image: str, model: int) -> None:
    run = Run(tmp_path)
    ran = run(
        (EXAMPLE / "manifest.yaml").read_text(), f"--driver={EXAMPLE / 'in_container.sh'}", "--retries=0",
        f"--endpoint=http://host.docker.internal:{model}", "--endpoint-header=Authorization: Bearer not-a-real-key",
    )  # fmt: skip
    log = run.out / "calc/agent.log"
    assert ran.told() == {"calc": "done"}, ran.output + (log.read_text()[-3000:] if log.exists() else "")
    prediction = json.loads((run.out / "calc/prediction.json").read_text())
    assert "-    return a - b\n+    return a + b\n" in prediction["model_patch"]
    trajectory = json.loads((run.out / "calc/trajectory.json").read_text())
    assert trajectory["exit_status"] == "finished" and len(trajectory["steps"]) > 3
    calls = [json.loads(line) for line in (run.out / "calc/calls.jsonl").read_text().splitlines()]
    assert {call["status"] for call in calls} == {200} and ran.result("calc")["calls"] == len(calls) >= 2
    # Its events came by WebSocket, through the key in the path, which no file holds.
    text = log.read_text()
    assert "/sockets/events/" in text and "[driver] " in text and "[server] " in text
    assert json.loads((run.out / "calc/isolation.json").read_text())["inside"]["interfaces"] == ["lo"]
