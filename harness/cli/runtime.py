"""taskgate runtime build | list | prune"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import OK
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import injected, prune, sources, volume
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.tasks import task_set


def add(commands: Any) -> None:
    parser = commands.add_parser("runtime", help="the self-contained Python, git and agent: build, list, prune")
    kinds = parser.add_subparsers(required=True, metavar="build|list|prune", parser_class=type(parser))
    build = kinds.add_parser("build", help="build the runtimes that the manifest's tasks ask for")
    build.add_argument("--images", metavar="SOURCE", required=True, help="the manifest")
    build.add_argument("--refresh", action="store_true", help="build again, from today's packages")
    build.add_argument("--docker-host", metavar="URL", help="address of the engine")
    build.set_defaults(run=_build)
    listing = kinds.add_parser("list", help="the runtimes in this user's cache: date, size, agent, and what uses them")
    listing.add_argument("--docker-host", metavar="URL", help="address of the engine whose users are counted")
    listing.set_defaults(run=_list)
    pruning = kinds.add_parser("prune", help="remove runtimes and injected images that these manifests don't use")
    pruning.add_argument(
        "--images",
        metavar="SOURCE",
        action="append",
        default=[],
        help="a manifest to keep the runtimes of (repeatable)",
    )
    pruning.add_argument("--all", action="store_true", help="remove everybody's runtimes and injected images")
    pruning.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    pruning.add_argument("--docker-host", metavar="URL", help="address of the engine")
    pruning.set_defaults(run=_prune)


def _build(given: argparse.Namespace) -> int:
    tasks = task_set.load(given.images)
    wanted = {(task.runtime, task.platform) for task in tasks if task.runtime and task.runtime.mode != "present"}
    if not wanted:
        raise UsageError("no task asks for a runtime", file=given.images)
    engine = Engine(given.docker_host)
    for runtime, platform in sorted(wanted, key=str):
        bundle = sources.resolve(engine, Store(), runtime, platform, refresh=given.refresh)
        print(f"{bundle.name}  {bundle.size / 1e6:.0f} MB  {bundle.prefix}  {bundle.python or 'no python'}")
    return OK


def _list(given: argparse.Namespace) -> int:
    store, users = Store(), None
    with contextlib.suppress(InfraError):
        engine = Engine(given.docker_host)
        users = _users(engine)
        engine.close()
    for bundle in store.all():
        about = store.about(bundle)
        created = datetime.fromtimestamp(store.tar(bundle).stat().st_mtime, UTC)
        used = "no engine answers" if users is None else users.get(bundle.name) or "unused"
        agent = escape.line(about or "agent unknown", 100)
        print(f"{bundle.name}  {created:%Y-%m-%d %H:%M}  {bundle.size / 1e6:.0f} MB  {bundle.prefix}  {agent}  {used}")
    return OK


def _users(engine: Engine) -> dict[str, str]:
    """What of the engine's uses each bundle, by its name. Raises InfraError."""
    images = Counter(injected.images(engine).values())
    volumes = {name.removeprefix("taskgate-runtime-") for name in volume.volumes(engine)}
    return {
        name: ", ".join(
            [*([f"{images[name]} injected images"] if images[name] else []), *(["1 volume"] if name in volumes else [])]
        )
        for name in {*images, *volumes}
    }


def _prune(given: argparse.Namespace) -> int:
    if not (given.images or given.all or given.dry_run):
        raise UsageError(
            "would remove everybody's runtimes and injected images: name the manifests to keep, or say --all",
            field="--images",
        )
    if given.images and given.all:
        raise UsageError("keeps nothing: leave out --images", field="--all")
    tasks = [task for file in given.images for task in task_set.load(file)]
    for line in prune.prune(Engine(given.docker_host), Store(), tasks, dry=given.dry_run):
        print(f"{'would remove' if given.dry_run else 'removed'} {line}")
    return OK
