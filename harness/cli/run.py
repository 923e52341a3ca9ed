"""taskgate run: an agent on every task that is worth it"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taskgate.harness.base import escape, files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import BROKEN, INTERRUPTED, NO_VERDICT, OK
from taskgate.harness.base.out_files import CACHE, MANIFEST, RUN
from taskgate.harness.base.redaction import masked
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.discovery import find_engine
from taskgate.harness.gate import population
from taskgate.harness.gate.cache import VerdictCache, parse_age
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.plugin import options
from taskgate.harness.runner import driver, runner
from taskgate.harness.runner.engine_pool import EnginePool
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import DEFAULT_BUDGET, RunSpec, settings
from taskgate.harness.runner.runner import Runner
from taskgate.harness.runtime import sources
from taskgate.harness.sandbox.isolation.endpoint import GATEWAY, Endpoint, is_loopback
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.tasks import manifest, manifest_dump, shards
from taskgate.harness.tasks.task import Agent, Budget, Task
from taskgate.harness.tasks.values import VARIABLE
from taskgate.reports.run import RunReport

SECRET_CHARACTERS = 4


def add(commands: Any) -> None:
    parser = commands.add_parser("run", help="run an agent on every task that is sound and not yet done")
    parser.add_argument("--images", metavar="SOURCE", required=True, help="the manifest, or another task set")
    parser.add_argument("--format", metavar="NAME", help="what kind of task set it is, where that can't be seen")
    parser.add_argument("--out", metavar="DIR", required=True, help="results, a folder a task")
    parser.add_argument("--agent", metavar="COMMAND|FILE", help="in place of the manifest's agent; FILE ends in .yaml")
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4, help="so many agents at once (default: 4)")
    parser.add_argument(
        "--time",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_BUDGET.seconds,
        help="an agent's time a task (default: 3600)",
    )
    parser.add_argument("--calls", metavar="N", type=int, help="an agent's calls a task")
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
    parser.add_argument("--retries", metavar="N", type=int, default=2, help="for infra alone (default: 2)")
    parser.add_argument("--keep-failed", action="store_true", help="don't run again what failed before")
    parser.add_argument("--redo", action="store_true", help="run again what is done")
    parser.add_argument("--only", metavar="ID", action="append", default=[], help="only this task (repeatable)")
    parser.add_argument("--shard", metavar="I/N", help="the I-th of N parts, by a hash of the id")
    parser.add_argument("--skip-list", metavar="FILE|URL", default="config/known_broken_images.txt")
    parser.add_argument("--preflight", metavar="DIR", default="results/preflight", help="where the gate's cache is")
    parser.add_argument("--max-age", metavar="AGE", default="30d", help="cached verdicts hold so long")
    parser.add_argument("--recheck", action="store_true", help="ignore cached verdicts and the skip list")
    parser.add_argument(
        "--trust-common-failures",
        action="store_true",
        help="list images as broken even if nearly all of them fail alike",
    )
    parser.add_argument("--check-path", metavar="DIR", action="append", default=[], help="checks of your own")
    parser.add_argument("--docker-host", metavar="URL", action="append", default=[], help="the engine (repeatable)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    tasks, checks = options.load(given.images, [Path(folder) for folder in given.check_path], format=given.format)
    tasks = _chosen(shards.pick(tasks, given.shard), given)
    spec = _spec(given)
    hosts = given.docker_host or [None]
    _examine(tasks, spec, hosts, given.images)
    skip_list = open_skip_list(given.skip_list)
    skips = {} if given.recheck else skip_list.read()
    age = parse_age(given.max_age)
    cache = VerdictCache(Path(given.preflight) / CACHE, age)
    session, stopping = ownership.new_session(), threading.Event()

    known = KnownVerdicts(None if given.recheck else cache, skips, max_age=age, list_name=masked(given.skip_list))

    def gate(connect: Callable[[], Engine], prover: Prover) -> Gate:
        return Gate(connect, checks, session=session, known=known, prover=prover, stopping=stopping)

    results = Results(Path(given.out))
    with results.held():
        stations = [EnginePool(url, session, given.jobs, gate) for url in hosts]
        for station in stations:
            station.reap(None)
        try:
            sources.prepare(stations[0].connect, tasks.values())
        except UsageError as error:
            raise UsageError(str(error), file=given.images) from error
        with stations[0].gate() as judging:
            wanted = settings(spec, tasks.values(), judging)
        _describe(results, list(tasks.values()), given, session, wanted)
        made = Runner(
            list(tasks.values()), spec, results,
            session=session, stations=stations, jobs=given.jobs, cache=cache, skip_list=skip_list,
            stopping=stopping, keep_failed=given.keep_failed, redo=given.redo,
            trust_common_failures=given.trust_common_failures,
        )  # fmt: skip
        report = RunReport(len(tasks), spec)
        with _interruptible(stopping, stations, session, report):
            try:
                with report:
                    for ended in made.run():
                        report.add(ended)
            finally:
                for station in stations:
                    station.close()
        cache.compact(len(tasks))
    for line in population.banner(made.common_failures, trusted=given.trust_common_failures):
        report.say(escape.line(line, 1000))
    report.summary(given.out)
    counts = report.counts()
    if stopping.is_set():
        return INTERRUPTED
    distrusted = made.common_failures and not given.trust_common_failures
    if distrusted or counts[runner.INFRA] or counts[runner.SKIP_INCOMPATIBLE]:
        return NO_VERDICT
    return BROKEN if counts[runner.FAILED] else OK


@contextlib.contextmanager
def _interruptible(
    stopping: threading.Event, stations: list[EnginePool], session: str, report: RunReport
) -> Iterator[None]:
    """The first signal ends the agents and the run, the second this process."""
    over = threading.Event()

    def stop(number: int, frame: object) -> None:
        if stopping.is_set():
            os._exit(INTERRUPTED)
        stopping.set()

    def end() -> None:
        while not over.wait(0.2):
            if stopping.is_set():
                report.say("stopping: agents are ended, what is done is kept; once more to leave at once")
                break
        # What is still being made meanwhile goes in the next round.
        while not over.wait(0.5):
            for station in stations:
                station.reap(session)

    ender = threading.Thread(target=end, daemon=True)
    ender.start()
    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        over.set()
        ender.join(60)
        for number, handler in old.items():
            signal.signal(number, handler)


def _chosen(tasks: dict[str, Task], given: argparse.Namespace) -> dict[str, Task]:
    for task_id in given.only:
        if task_id not in tasks:
            raise UsageError(f"there is no task {task_id!r}", file=given.images, field="--only")
    return {task_id: task for task_id, task in tasks.items() if not given.only or task_id in given.only}


def _spec(given: argparse.Namespace) -> RunSpec:
    """What was asked for. Raises UsageError."""
    for name, value, least in (("--jobs", given.jobs, 1), ("--retries", given.retries, 0), ("--calls", given.calls, 1)):
        if value is not None and value < least:
            raise UsageError(f"must be {least} or more", field=name)
    if not 0 < given.time <= 30 * 86400:
        raise UsageError("must be more than 0 and at most 2592000 seconds", field="--time")
    if given.inputs and not files.is_folder(Path(given.inputs)):
        raise UsageError(f"there is no folder {given.inputs}", field="--inputs")
    return RunSpec(
        agent=None if given.agent is None else _agent(given.agent),
        budget=Budget(given.time, given.calls),
        env=dict(_pair(text, "--env") for text in given.env),
        secrets=dict(_secret(text) for text in given.secret),
        endpoint=_endpoint(given.endpoint, given.endpoint_header),
        inputs=Path(given.inputs) if given.inputs else None,
        driver=None if given.driver is None else _driver(given.driver),
        retries=given.retries,
    )


def _agent(text: str) -> Agent:
    if text.endswith((".yaml", ".yml", ".json")):
        return manifest.load_agent(Path(text))
    return Agent(run=_argv(text, "--agent"))


def _argv(text: str, field: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"can't be split into words: {error}", field=field) from error
    if not argv:
        raise UsageError("is empty", field=field)
    return argv


def _driver(text: str) -> tuple[str, ...]:
    argv = _argv(text, "--driver")
    driver.check(argv)
    return argv


def _pair(text: str, field: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not VARIABLE.fullmatch(name) or not equals:
        raise UsageError(f"{text!r} is not of the form NAME=VALUE", field=field)
    return name, value


def _secret(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not VARIABLE.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a variable", field="--secret")
    try:
        value = Path(file).read_text().strip() if equals else os.environ.get(name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}", field="--secret") from error
    if value is None:
        raise UsageError(f"{name} is not set in this environment", field="--secret")
    if len(value) < SECRET_CHARACTERS or "\0" in value:
        raise UsageError(
            f"{name} is shorter than {SECRET_CHARACTERS} characters: it can't be kept out of logs", field="--secret"
        )
    return name, value


def _endpoint(url: str | None, headers: list[str]) -> Endpoint | None:
    if url is None:
        if headers:
            raise UsageError("needs an --endpoint", field="--endpoint-header")
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = None
    if not sound or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"{masked(url)!r} is no URL such as https://host/v1", field="--endpoint")
    if is_loopback(parts.hostname or ""):
        raise UsageError(
            f"{masked(url)!r}: the relay that makes the calls is a container and can't reach this machine's loopback "
            f"interface; let the service listen on 0.0.0.0 or the engine's bridge, and write {GATEWAY} for its host",
            field="--endpoint",
        )
    return Endpoint(url, dict(_header(text) for text in headers))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name, re.ASCII):
        raise UsageError(f"{text!r} is not of the form NAME: VALUE", field="--endpoint-header")

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(f"{found[1]} is not set in this environment", field="--endpoint-header")
        return os.environ[found[1]]

    value = re.sub(rf"\{{({VARIABLE.pattern})\}}", variable, value.strip())
    if not value.isprintable():
        raise UsageError(f"the value of {name} holds a control character", field="--endpoint-header")
    return name, value


def _examine(tasks: dict[str, Task], spec: RunSpec, hosts: list[str | None], shown: str) -> None:
    """What can be known to be wrong before anything is started. Raises UsageError."""
    served = False
    for task in tasks.values():
        try:
            served = bool(spec.agent_of(task).server) or served
        except UsageError as error:
            raise UsageError(error.problem, file=shown, field=error.field) from error
    for host in hosts if served else ():
        url = find_engine(host).url
        if urlsplit(url).scheme not in ("unix", "http+unix") and urlsplit(url).hostname not in (
            "localhost", "127.0.0.1", "::1",
        ):  # fmt: skip
            raise UsageError(
                f"{masked(url)}: a server agent is reached over the loopback interface of the engine's own machine; "
                "run there",
                field="--docker-host",
            )


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return masked(value) if isinstance(value, str) else value


def _describe(
    results: Results, tasks: list[Task], given: argparse.Namespace, session: str, wanted: dict[str, str]
) -> None:
    """What this folder is a run of, without secrets. Raises InfraError, NoSpace."""
    hidden = {"run", "endpoint_header"}
    told = {name: _shown(value) for name, value in vars(given).items() if name not in hidden}
    document = {
        "version": 1,
        "run": session,
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "options": told,
        "settings": wanted,
    }
    for name, data in ((MANIFEST, manifest_dump.dump(tasks)), (RUN, json.dumps(document, indent=1, default=str))):
        try:
            files.write(results.out / name, data.encode())
        except OSError as error:
            raise files.trouble(results.out / name, error) from error
