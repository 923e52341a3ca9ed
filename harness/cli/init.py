"""taskgate init: a first manifest, with comments, from what is there"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import OK
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.harness.tasks.task import Task

# Of an engine with thousands of images, these are enough to begin with.
IMAGES = 50
OWN = ("taskgate/", "taskgate-")

HEAD = """\
# A manifest of taskgate: the images to judge, and what an agent needs in them.
# All other fields are in the documentation of the manifest.
version: 1
defaults:
  # Where the task's repository is in the images. null: the images hold none, and git is not checked.
  repo_path: null
  # What starts the agent: `module: my_agent` (python3 -m my_agent) or `run: [my-agent, --flag]`.
  # agent: {run: [my-agent]}
  # The user that the agent runs as, and the folder it starts in. Without them, the image's own count.
  # user: agent
  # workdir: /workspace
  # never: only images that are on the engine already. missing: pull what is not there.
  pull: PULL
tasks:
"""
EXAMPLE = """\
# Replace this one. An image alone is enough; its name becomes the task's id.
- id: first
  image: registry.example/my-benchmark/first:1
"""


def add(commands: Any) -> None:
    parser = commands.add_parser("init", help="write a first manifest from a task set, or from the engine's images")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a task set (default: the engine's own images)")
    parser.add_argument("-o", "--output", metavar="FILE", default="manifest.yaml", help="default: %(default)s")
    parser.add_argument("--format", metavar="NAME", help="the format of SOURCE, if it can't be detected")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--docker-host", metavar="URL", help="address of the engine")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    target = Path(given.output)
    if target.exists() and not given.force:
        raise UsageError(f"{target} exists; --force replaces it", field="--output")
    text, count = _of_source(given) if given.source else _of_engine(given.docker_host)
    try:
        files.write(target, text.encode())
    except OSError as error:
        raise files.trouble(target, error) from error
    print(f"{target}: {count}")
    print(f"Edit it, then: taskgate check {target}")
    return OK


def _of_source(given: argparse.Namespace) -> tuple[str, str]:
    tasks: list[Task] = task_set.load(given.source, format=given.format)
    return manifest_dump.dump(tasks), f"{len(tasks)} tasks from {given.source}"


def _of_engine(url: str | None) -> tuple[str, str]:
    tags: list[str] = []
    with contextlib.suppress(InfraError):
        engine = Engine(url)
        tags = [tag for tag in engine.tags() if not tag.startswith(OWN)]
        engine.close()
    if not tags:
        return HEAD.replace("PULL", "missing") + EXAMPLE, "an example (no engine with images was found)"
    # JSON strings are YAML, whatever a name holds.
    rows = "".join(f"- image: {json.dumps(tag)}\n" for tag in tags[:IMAGES])
    more = f"# {len(tags) - IMAGES} more images are on the engine.\n" if len(tags) > IMAGES else ""
    return HEAD.replace("PULL", "never") + rows + more, f"{min(len(tags), IMAGES)} images of the engine"
