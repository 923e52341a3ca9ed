"""taskgate run: an agent on every task that is worth it"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import TaskgateError, UsageError
from taskgate.harness.base.exit_codes import BROKEN, INTERRUPTED, NO_VERDICT, OK
from taskgate.harness.base.out_files import CACHE, JUNIT, MANIFEST, REPORT, RUN
from taskgate.harness.base.redaction import redacted
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.base.units import parse_size
from taskgate.harness.cli import _run_spec
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.gate import population
from taskgate.harness.gate.cache import VerdictCache, parse_age
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.plugin import options
from taskgate.harness.proof.proven import Proven
from taskgate.harness.runner import control, limits, recovery, run_results
from taskgate.harness.runner.bookkeeping import Bookkeeping
from taskgate.harness.runner.engine_pool import EnginePool, PooledEngine
from taskgate.harness.runner.limits import InfraLimit
from taskgate.harness.runner.live import LiveView
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import COLLECT_SECONDS, DEFAULT_BUDGET, RunSpec, settings
from taskgate.harness.runner.runner import Controls, Runner
from taskgate.harness.runner.states import TaskState
from taskgate.harness.runner.task_run import Problem
from taskgate.harness.runtime import sources
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.tasks import manifest_dump, shards
from taskgate.harness.tasks.task import Task
from taskgate.reports import run_html, run_junit
from taskgate.reports.run_terminal import RunReport


def add(commands: Any) -> None:
    parser = commands.add_parser("run", help="run an agent on every task that is sound and not yet done")
    add_tasks(parser)
    add_agent(parser)
    add_course(parser)
    add_gate(parser)
    parser.set_defaults(run=run)


def add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", metavar="SOURCE", required=True, help="the manifest, or another task set")
    parser.add_argument("--format", metavar="NAME", help="the kind of task set, if it can't be detected")
    parser.add_argument("--out", metavar="DIR", required=True, help="results, a folder for each task")
    parser.add_argument("--only", metavar="ID", action="append", default=[], help="only this task (repeatable)")
    parser.add_argument("--shard", metavar="I/N", help="the I-th of N parts, by a hash of the id")


def add_agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", metavar="COMMAND|FILE", help="in place of the manifest's agent; FILE ends in .yaml")
    parser.add_argument(
        "--time",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_BUDGET.seconds,
        help="an agent's time for a task (default: 3600)",
    )
    parser.add_argument("--calls", metavar="N", type=int, help="an agent's calls for a task")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="for the agent (repeatable)")
    parser.add_argument(
        "--secret",
        metavar="NAME[=FILE]",
        action="append",
        default=[],
        help="a variable of this environment, or a file's text, for the agent alone (repeatable)",
    )
    parser.add_argument("--endpoint", metavar="URL", help="what the agent may call, even where it has no network")
    parser.add_argument(
        "--endpoint-header",
        metavar="NAME: VALUE",
        action="append",
        default=[],
        help="added to each call by the relay; {VAR} is a variable of this environment (repeatable)",
    )
    parser.add_argument("--inputs", metavar="DIR", help="DIR/TASK_ID is what the agent finds in $TASKGATE_IN")
    parser.add_argument("--driver", metavar="COMMAND", help="on this host, works through a server agent")


def add_course(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4, help="agents at a time (default: 4)")
    parser.add_argument(
        "--retries", metavar="N", type=int, default=2, help="further attempts after infra failures (default: 2)"
    )
    parser.add_argument("--keep-failed", action="store_true", help="don't run again what failed before")
    parser.add_argument("--redo", action="store_true", help="run again what is done")
    parser.add_argument(
        "--max-infra",
        metavar="N|P%",
        default=limits.DEFAULT,
        help="start nothing new once more tasks than this end in infra; a percentage counts from 20 tasks on, `off` "
        f"is no limit (default: {limits.DEFAULT.replace('%', '%%')})",
    )
    parser.add_argument(
        "--collect-timeout",
        metavar="SECONDS",
        type=float,
        default=COLLECT_SECONDS,
        help="how long to try to fetch the files of an agent that has ended (default: 600)",
    )


def add_gate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--skip-list", metavar="FILE|URL", default="config/known_broken_images.txt")
    parser.add_argument("--preflight", metavar="DIR", default="results/preflight", help="where the gate's cache is")
    parser.add_argument("--max-age", metavar="AGE", default="30d", help="how long cached verdicts hold (default: 30d)")
    parser.add_argument("--recheck", action="store_true", help="ignore cached verdicts and the skip list")
    parser.add_argument(
        "--trust-common-failures",
        action="store_true",
        help="list images as broken even if nearly all of them fail alike",
    )
    parser.add_argument(
        "--proof", metavar="DIR", help="run only tasks that `taskgate prove --out=DIR` proved solvable with this image"
    )
    parser.add_argument(
        "--proof-level",
        choices=("refuse", "warn"),
        default="refuse",
        help="with --proof: skip other tasks (refuse, the default), or run them with a warning",
    )
    parser.add_argument("--check-path", metavar="DIR", action="append", default=[], help="checks of your own")
    parser.add_argument(
        "--disk-budget",
        metavar="SIZE",
        help="disk that images pulled by runs may take on an engine, such as 40g: those of ended tasks are removed",
    )
    parser.add_argument("--docker-host", metavar="URL", action="append", default=[], help="the engine (repeatable)")


def run(given: argparse.Namespace) -> int:
    tasks, checks = options.load(given.images, [Path(folder) for folder in given.check_path], format=given.format)
    tasks = _chosen(shards.pick(tasks, given.shard), given)
    spec, infra_limit = _run_spec.run_spec(given), InfraLimit.parse(given.max_infra)
    hosts = given.docker_host or [None]
    _run_spec.examine(tasks, spec, hosts, given.images)
    skip_list, age = open_skip_list(given.skip_list), parse_age(given.max_age)
    skips = {} if given.recheck else skip_list.read()
    cache = VerdictCache(Path(given.preflight) / CACHE, age)
    known = KnownVerdicts(None if given.recheck else cache, skips, max_age=age, list_name=redacted(given.skip_list))
    session, controls = ownership.new_session(), Controls()

    def gate(connect: Callable[[], Engine], prover: Prover) -> Gate:
        return Gate(connect, checks, session=session, known=known, prover=prover, stopping=controls.stopping)

    size, wanted = _size(given.disk_budget), Counter(task.image for task in tasks.values())

    def budget(engine: Engine) -> DiskBudget | None:
        return None if size is None else DiskBudget(engine.url, size, wanted, session)

    results = Results(Path(given.out))
    bookkeeping = Bookkeeping(results, cache, skip_list, session)
    report = RunReport(len(tasks), spec, LiveView(results))
    with contextlib.ExitStack() as stack:
        stack.enter_context(results.held())
        pool = EnginePool(
            [PooledEngine(url, session, given.jobs, gate, budget=budget, stopping=controls.stopping) for url in hosts]
        )
        stack.callback(pool.close)
        for task_id in recovery.recover(results, [engine.connect for engine in pool.engines], spec):
            report.say(f"{task_id}: its agent had ended before the run was killed; its files were fetched now")
        pool.reap(None)
        fingerprints = _prepare(pool, tasks, spec, given.images)
        _describe(results, list(tasks.values()), given, session, fingerprints)
        problem = _proofs(given, report.say)
        runner = Runner(
            list(tasks.values()), spec, results,
            session=session, pool=pool, jobs=given.jobs, bookkeeping=bookkeeping, controls=controls,
            infra_limit=infra_limit, keep_failed=given.keep_failed, redo=given.redo,
            problem=problem,
        )  # fmt: skip
        with _controlled(controls, pool, session, results, report), report:
            for result in runner.run():
                report.add(result)
        bookkeeping.list_broken(tasks, trust_common_failures=given.trust_common_failures)
        pool.close()
        cache.compact(len(tasks))
    problems = [*bookkeeping.problems, *([str(infra_limit)] if infra_limit and infra_limit.reached else [])]
    problems += _write_reports(results)
    for line in population.banner(bookkeeping.common_failures, trusted=given.trust_common_failures):
        report.say(line)
    distrusted = bool(bookkeeping.common_failures) and not given.trust_common_failures
    report.summary(given.out, problems)
    return _status(controls, report.counts(), len(tasks), uncertain=bool(problems) or distrusted)


def _proofs(given: argparse.Namespace, say: Callable[[str], None]) -> Problem:
    """Why a task is not run for want of a proof. With --proof-level=warn, that is printed and no reason. Raises
    UsageError."""
    if given.proof is None:
        return lambda task, digests: None
    proven = Proven(Path(given.proof))
    if given.proof_level == "refuse":
        return proven.problem

    def warn(task: Task, digests: tuple[str, ...]) -> None:
        if problem := proven.problem(task, digests):
            say(f"warning: {task.id}: {problem}")

    return warn


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}", field="--disk-budget") from error


def _status(controls: Controls, counts: Counter[TaskState], total: int, *, uncertain: bool) -> int:
    """The exit status; `uncertain`: something went wrong with the run itself."""
    if controls.stopping.is_set():
        return INTERRUPTED
    if uncertain or any(
        counts[state] for state in (TaskState.INFRA, TaskState.INCOMPATIBLE, TaskState.SKIPPED_UNPROVEN)
    ):
        return NO_VERDICT
    if counts.total() < total:
        return INTERRUPTED
    return BROKEN if counts[TaskState.FAILED] else OK


def _write_reports(results: Results) -> list[str]:
    """report.html and junit.xml; what could not be written."""
    problems = []
    try:
        rows = run_results.rows(results)
        title = f"taskgate run: {results.out}"
        for name, data in (
            (REPORT, run_html.render(rows, title=title).encode("utf-8", "backslashreplace")),
            (JUNIT, run_junit.render(rows, name=title)),
        ):
            files.write(results.out / name, data)
    except (OSError, TaskgateError) as error:
        problems.append(f"the reports were not written: {error}")
    return problems


def _prepare(pool: EnginePool, tasks: dict[str, Task], spec: RunSpec, shown: str) -> dict[str, str]:
    """Have the runtimes; the fingerprint of each task. Raises UsageError, InfraError."""
    engine = pool.first()
    try:
        sources.prepare(engine.connect, tasks.values())
    except UsageError as error:
        raise UsageError(str(error), file=shown) from error
    with engine.gate() as gate:
        return settings(spec, tasks.values(), gate)


@contextlib.contextmanager
def _controlled(
    controls: Controls, pool: EnginePool, session: str, results: Results, report: RunReport
) -> Iterator[None]:
    """SIGINT and SIGTERM end the agents and the run, and this process when they come again. SIGUSR1, and
    `taskgate stop`, let those that run end and start nothing new."""
    over = threading.Event()

    def stop(number: int, frame: object) -> None:
        if controls.stopping.is_set():
            os._exit(INTERRUPTED)
        controls.stopping.set()

    def drain(number: int, frame: object) -> None:
        controls.draining.set()

    def watch() -> None:
        announced = False
        while not over.wait(0.2):
            control.obey(results, controls.draining, controls.stopping)
            if controls.draining.is_set() and not announced:
                announced = True
                report.say("draining: nothing new is started, agents at work go on to their end")
            if controls.stopping.is_set():
                report.say("stopping: agents are ended, what is done is kept; once more to leave at once")
                break
        # What is still being made meanwhile goes in the next round.
        while not over.wait(0.5):
            pool.reap(session)

    watcher = threading.Thread(target=watch, name="taskgate-control", daemon=True)
    watcher.start()
    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGUSR1: drain}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        over.set()
        watcher.join(60)
        for number, handler in old.items():
            signal.signal(number, handler)


def _chosen(tasks: dict[str, Task], given: argparse.Namespace) -> dict[str, Task]:
    for task_id in given.only:
        if task_id not in tasks:
            raise UsageError(f"there is no task {task_id!r}", file=given.images, field="--only")
    return {task_id: task for task_id, task in tasks.items() if not given.only or task_id in given.only}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def _describe(
    results: Results, tasks: list[Task], given: argparse.Namespace, session: str, wanted: dict[str, str]
) -> None:
    """Write down what this folder is a run of, without secrets. Raises InfraError, NoSpace."""
    hidden = {"run", "endpoint_header"}
    document = {
        "version": 1,
        "run": session,
        "started": utc_now(),
        "options": {name: _shown(value) for name, value in vars(given).items() if name not in hidden},
        "settings": wanted,
    }
    for name, data in ((MANIFEST, manifest_dump.dump(tasks)), (RUN, json.dumps(document, indent=1, default=str))):
        try:
            files.write(results.out / name, data.encode())
        except OSError as error:
            raise files.trouble(results.out / name, error) from error
