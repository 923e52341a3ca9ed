"""taskgate manifest: a task set in any format as a manifest of taskgate's own"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.harness.tasks.importers.importer import all_importers


def add(commands: Any) -> None:
    parser = commands.add_parser("manifest", help="write a task set, a registry or an engine's images as a manifest")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a file, a folder, registry://… or engine://…")
    parser.add_argument("-o", "--output", metavar="FILE", help="the manifest; without it, or with -, it is printed")
    parser.add_argument("--format", metavar="NAME", help="the format of SOURCE, if it can't be detected")
    parser.add_argument(
        "--defaults", metavar="FILE", help="a mapping as the manifest's `defaults`, for what SOURCE lacks"
    )
    parser.add_argument("--formats", action="store_true", help="list the formats")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    if given.formats or given.source is None:
        for known in sorted(all_importers().values(), key=lambda known: known.name):
            options = f"  (?{', ?'.join(known.options)})" if known.options else ""
            print(f"{known.name:<16} {known.about}{options}")
        return 0 if given.formats else 4
    tasks = task_set.load(given.source, format=given.format, defaults=given.defaults)
    write(manifest_dump.dump(tasks), given.output)
    sys.stderr.write(f"{len(tasks)} tasks\n")
    return 0


def write(text: str, output: str | None) -> None:
    """To the file, or to standard output where it is `-` or None. Raises InfraError, NoSpace."""
    if output in (None, "-"):
        sys.stdout.write(text)
        return
    try:
        files.write(Path(output), text.encode())
    except OSError as error:
        raise files.trouble(Path(output), error) from error
