"""taskgate build: images for the tasks that bring a Dockerfile"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.cli.manifest import write
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.harness.tasks.builds import Builder, Built, Key
from taskgate.harness.tasks.importers.importer import Build, Row


def add(commands: Any) -> None:
    parser = commands.add_parser("build", help="build the images of tasks that bring a Dockerfile, write a manifest")
    parser.add_argument("source", metavar="SOURCE", help="a task set")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the manifest of what was built")
    parser.add_argument(
        "--out", metavar="DIR", default="results/built", help="a log for each image (default: %(default)s)"
    )
    parser.add_argument("--format", metavar="NAME", help="the format of SOURCE, if it can't be detected")
    parser.add_argument("--defaults", metavar="FILE", help="a mapping as the manifest's `defaults`")
    parser.add_argument("--docker-host", metavar="URL")
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    if given.jobs < 1:
        raise UsageError("must be 1 or more", field="--jobs")
    loaded = task_set.read(given.source, format=given.format, defaults=given.defaults)
    if isinstance(loaded, list):
        raise UsageError("is a manifest: all its tasks name an image", file=given.source)
    source, rows = loaded
    # What is wrong with a row must be known before the first hour of building.
    known = task_set.tasks(
        source, [_built(row, number, {}) for number, row in enumerate(rows)], defaults=given.defaults
    )
    wanted = {
        (number, service): replace(
            row, fields={"id": _name(row, service)}, build=replace(build, platform=task.platform)
        )
        for number, (row, task) in enumerate(zip(rows, known, strict=True))
        for service, build in _builds(row)
    }
    # The manifest itself may go to standard output.
    progress = sys.stderr if given.output == "-" else sys.stdout
    results = _run(Builder(lambda: Engine(given.docker_host), Path(given.out)), wanted, given.jobs, progress)
    kept = [
        _built(row, number, results)
        for number, row in enumerate(rows)
        if all(results[number, service].outcome in ("built", "there") for service, _ in _builds(row))
    ]
    tasks = task_set.tasks(source, kept, defaults=given.defaults) if kept else []
    # Nobody else has them.
    tags = {built.tag for built in results.values()}
    text = manifest_dump.dump([replace(task, pull="never") if task.image in tags else task for task in tasks])
    write(text, given.output)
    counts = Counter(built.outcome for built in results.values())
    progress.write(f"{len(results)} images: {', '.join(f'{number} {name}' for name, number in counts.items())}\n")
    progress.write(f"manifest: {given.output} ({len(tasks)} of {len(rows)} tasks)   logs: {given.out}\n")
    return NO_VERDICT if counts["infra"] else BROKEN if counts["failed"] else OK


def _run(builder: Builder, wanted: Mapping[Key, Row], jobs: int, progress: TextIO) -> dict[Key, Built]:
    results = {}
    for key, built in builder.run(wanted, jobs=jobs):
        results[key] = built
        name = escape.line(str(wanted[key].fields["id"]))
        progress.write(f"{built.outcome:<8} {name}  {escape.line(built.reason or built.tag)}\n")
        progress.flush()
    return results


def _builds(row: Row) -> list[tuple[str | None, Build]]:
    """What must be built for a task, by the service's name; None is its own image."""
    return [*([(None, row.build)] if row.build else []), *row.service_builds.items()]


def _name(row: Row, service: str | None) -> str:
    return str(row.fields.get("id")) + (f"-{service}" if service else "")


def _built(row: Row, number: int, results: Mapping[Key, Built]) -> Row:
    """The row with its images' names; with any name where there is none yet."""
    fields = dict(row.fields)
    for service, _ in _builds(row):
        built = results.get((number, service))
        image = built.tag if built else "x:1"
        if service is None:
            fields["image"] = image
        else:
            services = fields["services"]
            fields["services"] = {**services, service: {**services[service], "image": image}}
    return replace(row, fields=fields, build=None, service_builds={})
