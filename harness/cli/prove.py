"""taskgate prove: can the tasks be solved, and are they not solved already?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from taskgate.harness.cli import check
from taskgate.harness.proof.proof_record import gold_cost
from taskgate.harness.proof.run import Run
from taskgate.harness.proof.run_store import runs_by_task

# A suggested limit leaves room for slower machines, and for what an agent runs beside the tests.
FACTOR = 3
LEAST_MEMORY = 512
MIB = 1 << 20
FORWARDED = ("out", "skip_list", "max_broken", "shard", "format", "html", "junitxml")
REPEATED = ("docker_host", "only")
FLAGS = ("offline", "skip_flaky", "recheck")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "prove",
        help="run each task's tests with the reference solution, and without: must pass, must fail",
        description="Runs each task's own tests N times with its reference solution (gold: they must pass) and N "
        "times without (nop: they must fail), each time in a fresh container. The same as "
        "`pytest --images=SOURCE --prove=N`.",
    )
    parser.add_argument("source", metavar="SOURCE", nargs="*", help="a manifest or another task set")
    parser.add_argument("--images", metavar="SOURCE", help="the same as SOURCE")
    parser.add_argument(
        "--out", metavar="DIR", default="results/proof", help="where the results go (default: results/proof)"
    )
    parser.add_argument("--repeat", metavar="N", default="3", help="completed runs of gold and of nop (default: 3)")
    parser.add_argument("-j", "--jobs", metavar="N", default="auto", help="tasks proven at once (default: auto)")
    parser.add_argument("--only", metavar="ID", action="append", default=[], help="prove only this task (repeatable)")
    parser.add_argument("--offline", action="store_true", help="run both controls without a network as well")
    parser.add_argument("--skip-flaky", action="store_true", help="put flaky tasks on the skip list too")
    parser.add_argument("--recheck", action="store_true", help="ignore earlier runs")
    parser.add_argument("--suggest-limits", action="store_true", help="print time-outs and memory for the manifest")
    parser.add_argument(
        "--skip-list", metavar="FILE|URL", help="the skip list (default: config/known_broken_images.txt)"
    )
    parser.add_argument("--max-broken", metavar="N|P%", help="maximum number or share of tasks that are not solvable")
    parser.add_argument("--shard", metavar="I/N", help="prove only the I-th of N parts")
    parser.add_argument("--format", metavar="NAME", help="the task set's format (default: detected)")
    parser.add_argument("--docker-host", metavar="URL", action="append", default=[], help="the engine (repeatable)")
    parser.add_argument("--html", metavar="FILE", help="write an HTML report")
    parser.add_argument("--junitxml", metavar="FILE", help="write a JUnit report")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    sources = [*given.source, *([given.images] if given.images else [])]
    arguments = ["check", *sources, f"--jobs={given.jobs}", f"--prove={given.repeat}"]
    for name in FORWARDED:
        if (value := getattr(given, name)) is not None:
            arguments.append(f"{_option(name)}={value}")
    arguments += [f"{_option(name)}={value}" for name in REPEATED for value in getattr(given, name)]
    arguments += [_option(name) for name in FLAGS if getattr(given, name)]
    status = check.run(_parser().parse_args(arguments))
    if given.suggest_limits:
        print(suggestion(runs_by_task(Path(given.out))), end="")
    return status


def suggestion(runs: dict[str, list[Run]]) -> str:
    """YAML for the manifest: for each task, a time-out and a memory limit that its slowest gold run fits in."""
    rows = []
    for task_id, own in runs.items():
        seconds, memory = gold_cost(own)
        if seconds:
            limits = {"limits": {"memory": f"{max(LEAST_MEMORY, FACTOR * memory // MIB)}m"}} if memory else {}
            rows.append({"id": task_id, "proof": {"timeout": round(FACTOR * seconds + 1)}, **limits})
    text: str = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="taskgate")
    check.add(parser.add_subparsers(required=True))
    return parser


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
