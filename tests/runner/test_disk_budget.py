"""A run whose images are more than the engine's disk holds: pulled ahead, kept while needed, removed when done."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from tests import engines, registry
from tests.faults.loopback import lent
from tests.running import Run

IMAGES, MEBIBYTE = 8, 1 << 20


@pytest.fixture
def port() -> Iterator[int]:
    with registry.registry() as port:
        yield port


def _publish(client: Any, port: int) -> list[str]:
    """Images of 12 MiB each that share nothing."""
    names = []
    for number in range(IMAGES):
        files = {
            "bin/sh": Path("/bin/busybox").read_bytes(), "work/file": os.urandom(12 * MEBIBYTE), "tmp/.keep": b"",
            "out.txt": secrets.token_bytes(8),
        }  # fmt: skip
        name = f"127.0.0.1:{port}/big/{number}:1"
        images.load(client, name, files, client.version()["Arch"], {"bin/sh": 0o755})
        client.api.push(name)
        client.images.remove(name)
        names.append(name)
    return names


def test_more_images_than_disk(tmp_path: Path, client: Any, port: int) -> None:
    names = _publish(client, port)
    agent = (
        'sh -c \'printf "{\\"task_id\\":\\"$1\\",\\"steps\\":[1]}" >$TASKGATE_OUT/trajectory.json;'
        ' printf "{\\"task_id\\":\\"$1\\",\\"patch\\":\\"x\\"}" >$TASKGATE_OUT/prediction.json; /bin/sh -c "exit 0"\' x'
    )
    text = "version: 1\ndefaults: {repo_path: null, workdir: /work, python: null,\n"
    text += "  checks: {git_available: off, disk: off, home: off}}\ntasks:\n"
    text += "".join(f"- {{id: task-{number}, image: '{name}'}}\n" for number, name in enumerate(names))
    # All of them are more than the disk holds. It has a bridge of its own, in a network namespace of its own.
    with engines.dockerd("--mtu=1500", size="90m") as daemon, lent(daemon.pid, port):
        run = Run(tmp_path)
        ran = run(text, "-j2", f"--agent={agent}", f"--docker-host={daemon.url}", "--disk-budget=40m")
        assert ran.status == 0 and set(ran.told().values()) == {"done"}, ran.output
        theirs = docker.DockerClient(base_url=daemon.url)
        left = [tag for image in theirs.images.list() for tag in image.tags]
        # A pause container of each gate holds an image as long as the run lasts.
        assert len(left) <= 4, left
        theirs.close()
        # What is done is not pulled again.
        again = run(None, "-j2", f"--agent={agent}", f"--docker-host={daemon.url}", "--disk-budget=40m")
        assert set(again.told().values()) == {"SKIP (done)"}, again.output
        results = [json.loads(path.read_text()) for path in run.out.glob("*/result.json")]
        assert len(results) == IMAGES and all(result["attempts"] == 1 for result in results)
