"""taskgate runtime build | list | prune"""

from __future__ import annotations

import argparse
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import prune, sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.tasks import task_set


def add(commands: Any) -> None:
    parser = commands.add_parser("runtime", help="the self-contained Python, git and agent: build, list, prune")
    kinds = parser.add_subparsers(required=True, metavar="build|list|prune", parser_class=type(parser))
    build = kinds.add_parser("build", help="make what the manifest's tasks ask for")
    build.add_argument("--images", metavar="FILE", required=True, help="the manifest")
    build.add_argument("--refresh", action="store_true", help="make it anew from the packages of today")
    build.add_argument("--docker-host", metavar="URL")
    build.set_defaults(run=_build)
    kinds.add_parser("list", help="the runtimes in this user's cache").set_defaults(run=_list)
    gone = kinds.add_parser("prune", help="remove what none of these manifests uses")
    gone.add_argument("--images", metavar="FILE", action="append", default=[], help="a manifest to keep (repeatable)")
    gone.add_argument("--dry-run", action="store_true", help="only say what would go")
    gone.add_argument("--docker-host", metavar="URL")
    gone.set_defaults(run=_prune)


def _build(given: argparse.Namespace) -> int:
    tasks = task_set.load(given.images)
    wanted = {(task.runtime, task.platform) for task in tasks if task.runtime and task.runtime.mode != "present"}
    if not wanted:
        raise UsageError("no task asks for a runtime", file=given.images)
    engine = Engine(given.docker_host)
    for runtime, platform in sorted(wanted, key=str):
        made = sources.resolve(engine, Store(), runtime, platform, refresh=given.refresh)
        print(f"{made.name}  {made.size / 1e6:.0f} MB  {made.prefix}  {made.python or 'no python'}")
    return 0


def _list(given: argparse.Namespace) -> int:
    for bundle in Store().all():
        print(f"{bundle.name}  {bundle.size / 1e6:.0f} MB  {bundle.prefix}")
    return 0


def _prune(given: argparse.Namespace) -> int:
    tasks = [task for file in given.images for task in task_set.load(file)]
    for line in prune.prune(Engine(given.docker_host), Store(), tasks, dry=given.dry_run):
        print(f"{'would remove' if given.dry_run else 'removed'} {line}")
    return 0
