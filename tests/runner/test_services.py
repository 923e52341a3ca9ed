"""`taskgate run` of a task with services: the agent reaches them, each attempt has its own, nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import running
from tests.running import Run

ASK = "python3 -c \"import urllib.request as u; u.urlopen('http://web:8123/')\""
SERVE = ["python3", "-m", "http.server", "8123"]


def test_an_agent_reaches_its_services(tmp_path: Path, client: Any, sound: str) -> None:
    image = running.working(client, sound)
    service = {"image": sound, "entrypoint": SERVE, "healthcheck": {"command": ASK, "interval": 0.5}}
    defaults = {
        "repo_path": "/testbed",
        "pull": "never",
        "agent": {"run": ["sh", "-c", f'{ASK} && exec agent_run "$1"', "sh"]},
        "services": {"web": service},
    }
    tasks = [{"id": "good-1", "image": image}, {"id": "good-2", "image": image, "network": "none"}]
    done = Run(tmp_path)(json.dumps({"version": 1, "defaults": defaults, "tasks": tasks}))
    assert done.status == 0 and done.told() == {"good-1": "done", "good-2": "done"}, done.output
    containers = client.containers.list(all=True, filters={"label": "taskgate"})
    assert not [container for container in containers if container.attrs["Config"]["Entrypoint"] == SERVE]
