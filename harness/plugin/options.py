"""The command line: what each option is called, and what it means once parsed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from taskgate.checks import _registry as registry
from taskgate.checks._registry import Check
from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.units import parse_size
from taskgate.harness.gate.cache import parse_age
from taskgate.harness.tasks import shards, task_set
from taskgate.harness.tasks.task import Task


def add(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskgate", "taskgate: which task images can an agent work in?")
    group.addoption(
        "--images",
        metavar="SOURCE",
        help="the manifest (YAML or JSON Lines), or another task set, whose images are judged",
    )
    group.addoption("--format", metavar="NAME", help="what kind of task set it is, where that can't be seen")
    group.addoption(
        "--skip-list",
        metavar="FILE|URL",
        default="config/known_broken_images.txt",
        help="text file or database URL of the images known to be broken (default: %(default)s)",
    )
    group.addoption(
        "--out",
        metavar="DIR",
        default="results/preflight",
        help="where the journal, verdicts.json and the cache go (default: %(default)s)",
    )
    group.addoption("--recheck", action="store_true", help="ignore cached verdicts and the skip list")
    group.addoption(
        "--max-age",
        metavar="AGE",
        default="30d",
        help="cached verdicts hold so long: 30d, 12h, 90m, never (default: 30d)",
    )
    group.addoption("--checks", metavar="A,B", help="run only these checks and those that they build on")
    group.addoption(
        "--check-path",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder with checks of your own (repeatable)",
    )
    group.addoption("--replay", metavar="OUT", help="judge nothing: report on the verdicts that this folder holds")
    group.addoption("--max-broken", metavar="N|P%", default="0", help="so many broken images are accepted (default: 0)")
    group.addoption(
        "--trust-common-failures",
        action="store_true",
        help="list images as broken even if nearly all of them fail alike (default: exit 10 and list nothing)",
    )
    group.addoption("--shard", metavar="I/N", help="judge only the I-th of N parts, I from 1 to N")
    group.addoption(
        "--balance",
        metavar="OUT",
        help="with --shard: a former run's folder or verdicts.json; parts take equally long by it (the same for all)",
    )
    group.addoption(
        "--docker-host",
        metavar="URL",
        action="append",
        default=[],
        help="the engine (repeatable: workers share them)",
    )
    group.addoption(
        "--cluster",
        metavar="ADDRESS",
        help="judge on the nodes of a dask cluster: tls://HOST:PORT, a scheduler file, or local:N",
    )
    group.addoption("--insecure-cluster", action="store_true", help="allow a cluster without TLS on another host")
    group.addoption(
        "--disk-budget",
        metavar="SIZE",
        help="so much disk may be taken by images that runs pulled (40g): what is judged is removed again to keep it",
    )
    group.addoption(
        "--report-rows",
        metavar="N",
        type=int,
        default=500,
        help="beyond so many images the HTML report has rows for failures only (default: 500)",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed options. `tasks` are those of this shard, by id, in the manifest's order."""

    tasks: dict[str, Task]
    checks: list[Check]
    skip_list: str
    out: Path
    recheck: bool
    max_age: timedelta | None
    max_broken: tuple[float, bool]
    docker_hosts: list[str]
    report_rows: int
    replay: Path | None
    disk_budget: int | None
    check_folders: tuple[Path, ...] = ()
    cluster: str | None = None
    insecure_cluster: bool = False
    trust_common_failures: bool = False

    def accepts(self, broken: int, judged: int) -> bool:
        """Are so many broken ones within `--max-broken`?"""
        return accepts(self.max_broken, broken, judged)


def parse(config: pytest.Config, given: list[Task] | None = None) -> Settings:
    """Read options and manifest. `given`: the shard's tasks, where another process has read it already. Raises
    UsageError."""
    option = config.option
    base = config.invocation_params.dir
    folders = [base / folder for folder in option.check_path]
    if given is None:
        tasks, checks = load(option.images, folders, format=option.format, base=base)
        seconds = shards.recorded(base / option.balance) if option.balance else None
        tasks = shards.pick(tasks, option.shard, seconds)
    else:
        tasks, checks = {task.id: task for task in given}, _checks(folders)
    if option.checks is not None:
        checks = _chosen(checks, option.checks)
        _insist(tasks, checks, str(option.images))
    skip_list = option.skip_list if "://" in option.skip_list else str(base / option.skip_list)
    return Settings(
        tasks=tasks,
        checks=checks,
        skip_list=skip_list,
        out=base / option.out,
        recheck=option.recheck,
        max_age=parse_age(option.max_age),
        max_broken=max_broken(option.max_broken),
        docker_hosts=option.docker_host,
        report_rows=option.report_rows,
        replay=base / option.replay if option.replay else None,
        disk_budget=_size(option.disk_budget, "--disk-budget"),
        check_folders=tuple(folders),
        cluster=option.cluster,
        insecure_cluster=option.insecure_cluster,
        trust_common_failures=option.trust_common_failures,
    )


def _size(text: str | None, field: str) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}", field=field) from error


def load(
    source: str, folders: list[Path], *, format: str | None = None, base: Path | None = None
) -> tuple[dict[str, Task], list[Check]]:
    """The tasks of a source by their ids, and all checks, those in `folders` among them. Raises UsageError."""
    checks = _checks(folders)
    found = task_set.load(source, format=format, base=base, checks=frozenset(check.name for check in checks))
    tasks = {task.id: task for task in found}
    _insist(tasks, checks, source)
    return tasks, checks


def _chosen(checks: list[Check], text: str) -> list[Check]:
    """What `--checks` names, with what it builds on. Raises UsageError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("names no check", field="--checks")
    try:
        return registry.chosen(checks, names)
    except KeyError as error:
        known = ", ".join(sorted(check.name for check in checks))
        raise UsageError(f"there is no check {error}; there are {known}", field="--checks") from error


def _insist(tasks: dict[str, Task], checks: list[Check], shown: str) -> None:
    """Of an image that nothing is asked of, nothing is known. Raises UsageError."""
    for task in tasks.values():
        if len(task.checks) >= len(checks) and all(task.checks.get(check.name) == "off" for check in checks):
            raise UsageError(
                "every check is off: nothing would be known of the image", file=shown, field=f"{task.id}.checks"
            )


def _checks(folders: list[Path]) -> list[Check]:
    for folder in folders:
        if not files.is_folder(folder):
            raise UsageError(f"{folder} is not a directory", field="--check-path")
    try:
        return registry.load(tuple(folders))
    except Exception as error:
        raise UsageError(f"a check can't be loaded: {type(error).__name__}: {error}", field="--check-path") from error


def accepts(limit: tuple[float, bool], broken: int, judged: int) -> bool:
    """Are so many broken ones of so many judged within what `max_broken` read?"""
    number, percent = limit
    return broken <= (number * judged / 100 if percent else number)


def max_broken(text: str) -> tuple[float, bool]:
    """A number, and whether it is a percentage. Raises UsageError."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = -1
    if not (0 <= value <= (100 if percent else float("inf"))):
        raise UsageError(f"{text!r} is neither a number nor a percentage", field="--max-broken")
    return value, percent
