"""One run with all hostile images and a few sound ones: each gets its own verdict, and nobody pays for another."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests.conftest import Gate, Run
from tests.hostile.corpus import IMAGES, Hostile

pytestmark = pytest.mark.slow

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}, timeout: 3}\ntasks:\n"
SOUND = [f"sound-{number}" for number in range(6)]


def test_each_is_judged_by_itself(gate: Gate, client: Any, sound: str) -> None:
    """Every hostile image gets the verdict of its label, every sound one is healthy, and nothing is left behind."""
    with ThreadPoolExecutor(3) as pool:
        built = dict(zip(IMAGES, pool.map(lambda case: _image(client, sound, case), IMAGES), strict=True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        run = gate(_manifest(built, sound, listener.getsockname()[1]), "-n", "6", "--dist=worksteal", "--html=r.html")
        assert not _called(listener), "an image reached a service on this host's loopback interface"
    # One can't be judged, so that the gate is closed.
    assert run.status == 10, run.output
    assert [task_id for task_id in SOUND if run.tasks[task_id]["verdict"] != "healthy"] == []
    assert [wrong for case in IMAGES if (wrong := _mistake(case, run.tasks[case.name]))] == []
    assert run.listed == {case.name for case in IMAGES if case.verdict == "broken"}
    _nothing_shows_through(run)
    session = {json.loads(line[2:])["run"] for line in run.skip_list.splitlines() if line.startswith("# {")}
    assert client.containers.list(all=True, filters={"label": f"taskgate.session={session.pop()}"}) == []
    assert not Path("/hostile-escape").exists()


def _image(client: Any, sound: str, case: Hostile) -> str:
    if not case.lines:
        return sound
    copies = "".join(f"COPY {name} /{name}\n" for name in case.files)
    files = {name: text.encode() for name, text in case.files.items()}
    return images.build(client, f"taskgate-test/hostile-{case.name}:1", f"FROM {sound}\n{copies}{case.lines}", files)


def _manifest(built: dict[Hostile, str], sound: str, port: int) -> str:
    rows = [
        {"id": case.name, "image": image, "env": {"PORTS": str(port)}, **case.task} for case, image in built.items()
    ]
    # The sound ones stand between them.
    for number, task_id in enumerate(SOUND):
        rows.insert(number * 8, {"id": task_id, "image": sound})
    return HEAD + "".join(f"- {json.dumps(row)}\n" for row in rows)


def _mistake(case: Hostile, task: dict[str, Any]) -> str | None:
    fine = (task["verdict"], task["check"]) == (case.verdict, case.check) and case.reason in (task["reason"] or "")
    return None if fine else f"{case.name}: {task['verdict']} {task['check']} {task['reason']}"


def _called(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _nothing_shows_through(run: Run) -> None:
    """No control sequence reaches the terminal, no markup the report, no line of its own the skip list."""
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(run.output)
    assert not re.search(r"^\s*::|##\w*\[", run.output, re.M), "a CI job would take it for a command"
    assert "<script>owned" not in (run.folder / "r.html").read_text()
    assert set(SOUND) & run.listed == set()
