"""What an agent finds in its environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from taskgate.harness.engine.client import Image
from taskgate.harness.runner import agent_setup
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.tasks.task import Budget, Task

FOLDERS: Any = SimpleNamespace(out="/out", given=None, submission=None)


def _environment(image_env: dict[str, str], room: dict[str, str], **spec: Any) -> dict[str, str]:
    image = Image("sha256:0", "linux/amd64", "", image_env, False)
    return agent_setup.environment(Task("a", "i"), RunSpec(**spec), image, Budget(), FOLDERS, None, room)


def test_an_endpoint_is_called_past_every_proxy() -> None:
    room = {"TASKGATE_ENDPOINT": "http://127.0.0.1:8399/k"}
    env = _environment({"http_proxy": "http://proxy:1", "NO_PROXY": "corp.invalid"}, room)
    assert env["no_proxy"] == env["NO_PROXY"] == "corp.invalid,127.0.0.1,localhost"
    env = _environment({}, room, env={"no_proxy": "a.b"})
    assert env["no_proxy"] == env["NO_PROXY"] == "a.b,127.0.0.1,localhost"


def test_without_an_endpoint_nothing_is_set() -> None:
    assert not {"no_proxy", "NO_PROXY"} & set(_environment({"http_proxy": "http://proxy:1"}, {}))
