"""The command line: what each option is called, and what it means once parsed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from taskgate.checks import _registry as registry
from taskgate.checks._registry import Check
from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.units import parse_size
from taskgate.harness.gate.cache import parse_age
from taskgate.harness.tasks import shards, task_set
from taskgate.harness.tasks.task import Task


class OptionGroup(Protocol):
    """What an option is declared on: pytest's group, or what passes it on to argparse."""

    def addoption(self, *names: str, **attributes: Any) -> None: ...


class OptionParser(Protocol):
    def getgroup(self, name: str, description: str) -> OptionGroup: ...


def add(parser: OptionParser) -> None:
    """Declare the gate's options."""
    group = parser.getgroup("taskgate", "taskgate: which task images can an agent work in?")
    for declare in (_add_source, _add_verdicts, _add_proofs, _add_engines, _add_reports):
        declare(group)


def _add_source(group: OptionGroup) -> None:
    """What is judged, and where the results go."""
    group.addoption(
        "--images",
        metavar="SOURCE",
        help="the manifest (YAML or JSON Lines) or another task set whose images are to be judged",
    )
    group.addoption("--format", metavar="NAME", help="the format of SOURCE, if it can't be detected")
    group.addoption(
        "--skip-list",
        metavar="FILE|URL",
        default="config/known_broken_images.txt",
        help="text file or database URL that lists the images known to be broken (default: %(default)s)",
    )
    group.addoption(
        "--out",
        metavar="DIR",
        default="results/preflight",
        help="folder for the journal, verdicts.json and the cache (default: %(default)s)",
    )
    group.addoption("--shard", metavar="I/N", help="judge only part I of N, I from 1 to N")
    group.addoption(
        "--balance",
        metavar="OUT",
        help="with --shard: an earlier run's --out, by which the parts take equally long (the same for all)",
    )


def _add_verdicts(group: OptionGroup) -> None:
    """Which verdicts are reached anew, and what they mean for the exit status."""
    group.addoption("--recheck", action="store_true", help="ignore cached verdicts and the skip list")
    group.addoption(
        "--max-age",
        metavar="AGE",
        default="30d",
        help="judge again what was judged longer ago than this: 30d, 12h, 90m; never: at no age (default: 30d)",
    )
    group.addoption("--checks", metavar="A,B", help="run only these checks and the ones they depend on")
    group.addoption(
        "--check-path",
        metavar="DIR",
        action="append",
        default=[],
        help="folder with checks of your own (repeatable)",
    )
    group.addoption(
        "--max-broken",
        metavar="N|P%",
        default="0",
        help="maximum number or share of broken images tolerated (default: 0)",
    )
    group.addoption(
        "--allow-incompatible",
        action="store_true",
        help="images that this host can't run do not fail the gate; they still have no verdict",
    )
    group.addoption(
        "--trust-common-failures",
        action="store_true",
        help="list images as broken even if nearly all of them fail alike (default: exit 10 and list nothing)",
    )


def _add_proofs(group: OptionGroup) -> None:
    """Proofs in place of checks."""
    group.addoption(
        "--prove",
        metavar="N",
        type=int,
        help="prove the tasks instead of checking their images: N runs with the reference solution, N without",
    )
    group.addoption("--skip-flaky", action="store_true", help="with --prove: put flaky tasks on the skip list too")
    group.addoption("--offline", action="store_true", help="with --prove: N runs of each without a network as well")


def _add_engines(group: OptionGroup) -> None:
    """Where the containers run."""
    group.addoption(
        "--docker-host",
        metavar="URL",
        action="append",
        default=[],
        help="address of the engine (repeatable: workers are spread over them)",
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
        help="disk space for images that runs pull (40g); judged ones are removed to stay within it",
    )


def _add_reports(group: OptionGroup) -> None:
    """What is reported."""
    group.addoption("--replay", metavar="OUT", help="judge nothing; report the verdicts in this --out folder again")
    group.addoption(
        "--report-rows",
        metavar="N",
        type=int,
        default=500,
        help="above this number of images the HTML report lists failures only (default: 500)",
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
    max_broken_text: str
    allow_incompatible: bool
    docker_hosts: list[str]
    report_rows: int
    replay: Path | None
    disk_budget: int | None
    check_folders: tuple[Path, ...] = ()
    cluster: str | None = None
    prove: int | None = None
    offline: bool = False
    skip_flaky: bool = False
    insecure_cluster: bool = False
    trust_common_failures: bool = False

    @property
    def unlisted(self) -> frozenset[str]:
        """The proof verdicts that are broken and not put on the skip list."""
        return frozenset({"needs network"} if self.skip_flaky else {"needs network", "flaky"})

    def accepts(self, broken: int, judged: int) -> bool:
        """Is that number of broken images, of those judged, within --max-broken?"""
        return accepts(self.max_broken, broken, judged)


def parse(config: pytest.Config, given: list[Task] | None = None) -> Settings:
    """Read options and manifest. `given`: the shard's tasks, if another process has read them already. Raises
    UsageError."""
    option = config.option
    base = config.invocation_params.dir
    folders = [base / folder for folder in option.check_path]
    if given is None:
        if option.balance and not option.shard:
            raise UsageError("needs --shard=I/N: it says how the parts are made", field="--balance")
        tasks, checks = load(option.images, folders, format=option.format, base=base)
        seconds = shards.recorded(base / option.balance) if option.balance else None
        tasks = shards.pick(tasks, option.shard, seconds)
    else:
        tasks, checks = {task.id: task for task in given}, _checks(folders)
    if option.checks is not None:
        checks = _chosen(checks, option.checks)
        _insist(tasks, checks, str(option.images))
    if option.prove and option.cluster:
        raise UsageError("can't be used with --prove: solutions, tests and runs are on this host", field="--cluster")
    skip_list = option.skip_list if "://" in option.skip_list else str(base / option.skip_list)
    return Settings(
        tasks=tasks,
        checks=checks,
        skip_list=skip_list,
        out=base / option.out,
        recheck=option.recheck,
        max_age=parse_age(option.max_age),
        max_broken=max_broken(option.max_broken),
        max_broken_text=option.max_broken,
        allow_incompatible=option.allow_incompatible,
        docker_hosts=option.docker_host,
        report_rows=option.report_rows,
        replay=base / option.replay if option.replay else None,
        disk_budget=_size(option.disk_budget, "--disk-budget"),
        check_folders=tuple(folders),
        cluster=option.cluster,
        prove=_repeat(option.prove),
        offline=option.offline,
        skip_flaky=option.skip_flaky,
        insecure_cluster=option.insecure_cluster,
        trust_common_failures=option.trust_common_failures,
    )


def _repeat(number: int | None) -> int | None:
    if number is not None and not 1 <= number <= 100:
        raise UsageError("must be from 1 to 100", field="--prove")
    return number


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
    loaded = task_set.load(source, format=format, base=base, checks=frozenset(check.name for check in checks))
    tasks = {task.id: task for task in loaded}
    _insist(tasks, checks, source)
    return tasks, checks


def _chosen(checks: list[Check], text: str) -> list[Check]:
    """The checks that --checks names and those that they depend on. Raises UsageError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("names no check", field="--checks")
    try:
        return registry.chosen(checks, names)
    except KeyError as error:
        known = ", ".join(sorted(check.name for check in checks))
        raise UsageError(f"there is no check {error}; there are {known}", field="--checks") from error


def _insist(tasks: dict[str, Task], checks: list[Check], shown: str) -> None:
    """Refuse a task whose checks are all off: its image would be healthy whatever it is. Raises UsageError."""
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
    """Is `broken` of `judged` within the limit that `max_broken` parsed?"""
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
