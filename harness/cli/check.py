"""taskgate check: the gate, for those who don't want to know pytest"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import MANIFEST
from taskgate.harness.plugin import hooks, options
from taskgate.harness.plugin.case_ids import case_argument
from taskgate.harness.tasks import manifest_dump, task_set
from taskgate.reports.progress import LineProgress
from taskgate.reports.report import Report, RunContext

# No header, no letters, no tracebacks: the gate's own summary says it all. A project's own settings play no part.
QUIET = ["-qq", "--tb=no", "-rN", "--no-header", "-s", "-p", "no:cacheprovider", "-o", "console_output_style=classic"]
ALONE = ["-c", os.devnull, "--noconftest", "--rootdir=."]


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="judge every image of a manifest or task set: which ones can an agent work in?",
        description="Judges every image of one or more task sets. The same gate as `pytest --images=SOURCE`, with the "
        "same options, files and exit status.",
    )
    parser.add_argument("source", metavar="SOURCE", nargs="+", help="a manifest, another task set, or engine://")
    parser.add_argument("-j", "--jobs", metavar="N", default="auto", help="images judged at once (default: auto)")
    parser.add_argument("--only", metavar="ID", action="append", default=[], help="judge only this task (repeatable)")
    parser.add_argument("--html", metavar="FILE", help="write an HTML report")
    parser.add_argument("--junitxml", metavar="FILE", help="write a JUnit report")
    options.add(_Arguments(parser))
    parser.set_defaults(run=run)


class _Arguments:
    """Takes pytest's options of the gate over into argparse, but for --images."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def getgroup(self, name: str, description: str) -> _Arguments:
        return self

    def addoption(self, *names: str, **attributes: Any) -> None:
        if "--images" not in names:
            self._parser.add_argument(*names, **attributes)


def run(given: argparse.Namespace) -> int:
    arguments = [*QUIET, *ALONE, f"--images={_source(given)}", *_forwarded(given)]
    if given.jobs != "1" and not given.cluster and not given.replay:
        arguments += ["-n", _jobs(given.jobs)]
    if given.html:
        arguments += [f"--html={given.html}", "--self-contained-html"]
    if given.junitxml:
        arguments.append(f"--junitxml={given.junitxml}")
    arguments += [case_argument(task_id) for task_id in given.only]
    return int(pytest.main(arguments, plugins=[*_plugins(), _Lines()]))


def _plugins() -> list[object]:
    """The gate's plugin, unless an installed taskgate brings it by its entry point."""
    from importlib.metadata import entry_points

    return [] if any(point.value == hooks.__name__ for point in entry_points(group="pytest11")) else [hooks]


def _jobs(text: str) -> str:
    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise UsageError("must be a number from 1 on, or auto", field="--jobs")
    return text


def _source(given: argparse.Namespace) -> str:
    """The task set; several are written down as one manifest in --out. Raises UsageError, InfraError."""
    if len(given.source) == 1:
        return str(given.source[0])
    tasks = {}
    for source in given.source:
        for task in task_set.load(source, format=given.format):
            if task.id in tasks:
                raise UsageError(f"the id {task.id!r} is in another SOURCE as well", file=source)
            tasks[task.id] = task
    target = Path(given.out) / MANIFEST
    try:
        files.write(target, manifest_dump.dump(list(tasks.values())).encode())
    except OSError as error:
        raise files.trouble(target, error) from error
    given.format = None
    return str(target)


def _forwarded(given: argparse.Namespace) -> list[str]:
    """The gate's options as pytest takes them, as far as they were given."""
    names = argparse.ArgumentParser(add_help=False)
    options.add(_Arguments(names))
    forwarded = []
    for action in names._actions:
        name, value = action.option_strings[0], getattr(given, action.dest)
        if value is True:
            forwarded.append(name)
        elif isinstance(value, list):
            forwarded += [f"{name}={entry}" for entry in value]
        elif value is not None and value is not False and value != action.default:
            forwarded.append(f"{name}={value}")
    return forwarded


class _Lines:
    """Without a terminal, progress is a line now and then."""

    def pytest_taskgate_reports(self, run: RunContext) -> list[Report]:
        return [] if sys.stdout.isatty() else [LineProgress(sys.stdout, run.task_id)]
