"""taskgate inject: an image of its own, with the runtime in it, for every image of a manifest"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.cli.manifest import write
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.runtime.inject import Injected, Injection, key_of, rewritten, wants
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.harness.tasks.task import Task


def add(commands: Any) -> None:
    parser = commands.add_parser("inject", help="put the runtime into images of their own, that can be pushed")
    parser.add_argument("--images", metavar="FILE", required=True, help="the manifest")
    parser.add_argument("--out", metavar="DIR", default="results/injected", help="record and new manifest")
    parser.add_argument("--tag", metavar="TEMPLATE", help="the new names: {repository}, {name}, {tag}, {hash}")
    parser.add_argument("--mode", choices=("layer", "build"), help="for all (default: build where a task says it)")
    parser.add_argument("--push", action="store_true", help="push every new image")
    parser.add_argument("--skip-list", metavar="FILE|URL", default="config/known_broken_images.txt")
    parser.add_argument("--docker-host", metavar="URL")
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    tasks = task_set.load(given.images)
    if not any(wants(task) for task in tasks):
        raise UsageError("no task asks for a runtime", file=given.images)
    if given.jobs < 1:
        raise UsageError("must be 1 or more", field="--jobs")
    skip_list = open_skip_list(given.skip_list)
    skip_list.read()
    injection = Injection(
        lambda: Engine(given.docker_host),
        Path(given.out),
        tag=given.tag,
        mode=given.mode,
        push=given.push,
        jobs=given.jobs,
    )
    results = []
    for result in injection.run(tasks):
        results.append(result)
        print(
            f"{result.outcome:<12} {escape.line(result.image)}  {escape.line(result.reason or result.tag or '')}",
            flush=True,
        )
    skip_list.update(_entries(tasks, results), [])
    target = Path(given.out) / "manifest.yaml"
    write(manifest_dump.dump(rewritten(tasks, results, pushed=given.push)), str(target))
    counts = Counter(result.outcome for result in results)
    print(f"{len(results)} images: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    print(f"manifest:  {target}")
    return NO_VERDICT if counts["infra"] or counts["incompatible"] else BROKEN if counts["broken"] else OK


def _entries(tasks: list[Task], results: list[Injected]) -> list[Entry]:
    now = utc_now()
    broken = {result.key: result for result in results if result.outcome == "broken"}
    run_id = ownership.new_session()
    return [
        Entry(
            task.id,
            check="injection",
            reason=broken[key_of(task)].reason,
            image=task.image,
            digest=broken[key_of(task)].digest,
            fingerprint=None,
            first=now,
            last=now,
            run=run_id,
        )
        for task in tasks
        if wants(task) and key_of(task) in broken
    ]
