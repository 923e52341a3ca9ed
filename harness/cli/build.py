"""taskgate build: images for the tasks that bring a Dockerfile"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.cli.manifest import write
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.harness.tasks.builds import Builder, Built
from taskgate.harness.tasks.importers.importer import Row


def add(commands: Any) -> None:
    parser = commands.add_parser("build", help="build the images of tasks that bring a Dockerfile, write a manifest")
    parser.add_argument("source", metavar="SOURCE", help="a task set")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the manifest of what was built")
    parser.add_argument("--out", metavar="DIR", default="results/built", help="a log an image (default: %(default)s)")
    parser.add_argument("--format", metavar="NAME", help="what SOURCE is, where that can't be seen")
    parser.add_argument("--defaults", metavar="FILE", help="a mapping as the manifest's `defaults`")
    parser.add_argument("--docker-host", metavar="URL")
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    if given.jobs < 1:
        raise UsageError("must be 1 or more", field="--jobs")
    found = task_set.read(given.source, format=given.format)
    if isinstance(found, list):
        raise UsageError("is a manifest: all its tasks name an image", file=given.source)
    source, rows = found
    # What is wrong with a row must be known before the first hour of building.
    task_set.tasks(source, [_with(row, "x:1") if row.build else row for row in rows], defaults=given.defaults)
    results: dict[int, Built] = {}
    builder = Builder(lambda: Engine(given.docker_host), Path(given.out))
    wanted = {number: row for number, row in enumerate(rows) if row.build}
    for number, built in builder.run(wanted, jobs=given.jobs):
        results[number] = built
        named = escape.line(str(rows[number].fields.get("id")))
        print(f"{built.outcome:<8} {named}  {escape.line(built.reason or built.tag)}", flush=True)
    kept = [
        _with(row, results[number].tag) if row.build else row
        for number, row in enumerate(rows)
        if not row.build or results[number].outcome in ("built", "there")
    ]
    made = task_set.tasks(source, kept, defaults=given.defaults)
    # Nobody else has them.
    tags = {built.tag for built in results.values()}
    write(
        manifest_dump.dump([replace(task, pull="never") if task.image in tags else task for task in made]), given.output
    )
    counts = Counter(built.outcome for built in results.values())
    print(f"{len(results)} images: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    print(f"manifest: {given.output} ({len(made)} of {len(rows)} tasks)   logs: {given.out}")
    return NO_VERDICT if counts["infra"] else BROKEN if counts["failed"] else OK


def _with(row: Row, image: str) -> Row:
    return replace(row, fields={**row.fields, "image": image}, build=None)
