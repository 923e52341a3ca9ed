"""The pytest plugin: options, one case per image, container fixtures; hands what they find to the controller."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.out_files import CACHE
from taskgate.harness.base.redaction import masked
from taskgate.harness.cluster import node
from taskgate.harness.cluster.cluster import connect
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import first_engine
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.image_provider import DiskLimit
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.replay import Replay
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.verdict import Evidence, Record, Verdict
from taskgate.harness.plugin import options, report_property
from taskgate.harness.plugin.case_ids import SUITE
from taskgate.harness.plugin.cluster_loop import ClusterLoop
from taskgate.harness.plugin.controller import Controller
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task

Judge = Callable[[Task, Task | None], Record]

SETTINGS = pytest.StashKey[options.Settings]()
SKIPS = pytest.StashKey[dict[str, Entry]]()
SESSION = pytest.StashKey[str]()
FOLLOWING = pytest.StashKey[Task | None]()
REPLAY = pytest.StashKey[Replay]()
RECORD = pytest.StashKey[Record]()
CLUSTER = pytest.StashKey[ClusterLoop]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.images:
        return
    try:
        worker = getattr(config, "workerinput", None)
        # What a registry has may be another thing a moment later: all workers judge what the controller has seen.
        given = pickle.loads(worker["taskgate_tasks"]) if worker else None  # noqa: S301 # from our own controller
        settings = config.stash[SETTINGS] = options.parse(config, given)
        config.stash[SESSION] = worker["taskgate_session"] if worker else ownership.new_session()
        if settings.replay:
            config.stash[REPLAY] = Replay(settings.replay)
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(SUITE)]
        if worker is None:
            controller = Controller(config, settings, config.stash[SESSION])
            config.pluginmanager.register(controller, "taskgate-controller")
        # Read once: what happens to the list meanwhile is the end's affair.
        config.stash[SKIPS] = pickle.loads(worker["taskgate_skips"]) if worker else controller.skips  # noqa: S301
        if settings.cluster and worker is None:
            config.stash[CLUSTER] = _cluster_loop(config, settings)
            config.pluginmanager.register(config.stash[CLUSTER], "taskgate-cluster")
    except UsageError as error:
        raise pytest.UsageError(escape.message(str(error))) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise pytest.UsageError(escape.message(f"{error.filename or 'a file'}: {error.strerror}")) from error


def _cluster_loop(config: pytest.Config, settings: options.Settings) -> ClusterLoop:
    """Raises UsageError."""
    if getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None):
        raise UsageError("spreads the images itself: leave out -n and --tx", field="--cluster")
    session, tasks = config.stash[SESSION], list(settings.tasks.values())
    cache = None if settings.recheck else VerdictCache(settings.out / CACHE, settings.max_age)
    skips = {} if settings.recheck else config.stash[SKIPS]

    def known(task: Task) -> node.Payload:
        return node.Payload(task, cache.last(task.id) if cache else None, skips.get(task.id))

    return ClusterLoop(
        lambda: connect(settings.cluster or "", insecure=settings.insecure_cluster),
        lambda: node.setup_of(
            session,
            tasks,
            settings.checks,
            folders=settings.check_folders,
            docker_hosts=settings.docker_hosts,
            disk_budget=settings.disk_budget,
        ),
        known,
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if SESSION in node.config.stash:
        node.workerinput["taskgate_session"] = node.config.stash[SESSION]
        # What --balance goes by may be another thing, or on another host.
        node.workerinput["taskgate_tasks"] = pickle.dumps(list(node.config.stash[SETTINGS].tasks.values()))
        # A worker's host may have no such file.
        node.workerinput["taskgate_skips"] = pickle.dumps(node.config.stash[SKIPS])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """In a clone, `harness` is a folder on the way to the suite, not a top-level package to import."""
    if path == SUITE.parent.parent:
        return pytest.Dir.from_parent(parent, path=path)
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Outside of a clone the suite lies beyond rootdir, where pytest would give it an empty id."""
    if module_path == SUITE:
        nodeid = Path(os.path.relpath(SUITE, parent.config.rootpath)).as_posix()
        return pytest.Module.from_parent(parent, path=module_path, nodeid=nodeid)
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "task" in metafunc.fixturenames and SETTINGS in metafunc.config.stash:
        metafunc.parametrize("task", list(metafunc.config.stash[SETTINGS].tasks.values()))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Ids as the manifest has them: pytest would escape what isn't ASCII and shorten what is long."""
    return val.id if isinstance(val, Task) else None


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The next image is pulled while this one is checked."""
    item.stash[FOLLOWING] = next(_tasks([nextitem] if nextitem else []), None)


@pytest.fixture(scope="session")
def judge(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Judge:
    """What finds the verdicts: the gate, or with --replay what another run has found."""
    if replay := pytestconfig.stash.get(REPLAY, None):
        return replay.judge
    if cluster := pytestconfig.stash.get(CLUSTER, None):
        return cluster.judge
    found: Gate = request.getfixturevalue("gate")
    return found.judge


@pytest.fixture(scope="session")
def gate(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Gate]:
    """The worker's gate, with an engine of its own."""
    settings = pytestconfig.stash[SETTINGS]
    hosts = settings.docker_hosts
    worker = getattr(pytestconfig, "workerinput", {}).get("workerid", "gw0")
    own = int(worker.removeprefix("gw")) % len(hosts) if hosts else 0
    # Its own engine, and the others where that one is gone.
    urls: list[str | None] = [*hosts[own:], *hosts[:own]]
    made = Gate(
        lambda: first_engine(urls or [None]),
        settings.checks,
        session=pytestconfig.stash[SESSION],
        known=None if settings.recheck else _known_verdicts(pytestconfig),
        disk=_disk_limit(settings),
    )
    # Under xdist every worker gets its share of the cases, whichever that will be.
    made.expect(_tasks(request.session.items), shared=hasattr(pytestconfig, "workerinput"))
    yield made
    made.close()


def _known_verdicts(config: pytest.Config) -> KnownVerdicts:
    settings = config.stash[SETTINGS]
    return KnownVerdicts(
        VerdictCache(settings.out / CACHE, settings.max_age),
        config.stash[SKIPS],
        max_age=settings.max_age,
        list_name=masked(settings.skip_list),
    )


def _disk_limit(settings: options.Settings) -> DiskLimit | None:
    if not settings.disk_budget:
        return None
    return DiskLimit(settings.disk_budget, Counter(task.image for task in settings.tasks.values()))


def _tasks(items: list[pytest.Item]) -> Iterator[Task]:
    for item in items:
        task = getattr(item, "callspec", None) and item.callspec.params.get("task")  # type: ignore[attr-defined]
        if isinstance(task, Task):
            yield task


@pytest.fixture
def record(task: Task, judge: Judge, request: pytest.FixtureRequest) -> Record:
    """The verdict on the case's image: checked in a container now, or known from before.

    An image of which nothing can be known is an error, one that this host can't run is skipped.
    """
    found = request.node.stash[RECORD] = judge(task, request.node.stash.get(FOLLOWING, None))
    request.node.user_properties.append(report_property.stamp(found))
    if found.verdict is Verdict.INFRA:
        raise InfraError(found.reason or "")
    if found.verdict is Verdict.INCOMPATIBLE:
        pytest.skip(found.reason or "")
    return found


@pytest.fixture
def sandbox(task: Task, gate: Gate, pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """A container of the case's image, for tests of your own: `sandbox.sh("…")`."""
    made = Sandbox(gate.engine, task, pytestconfig.stash[SESSION], delivery=gate.delivery(task), prover=gate.prover)
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a person reads of a failure: reason, hint and evidence instead of a traceback."""
    report = yield
    found = item.stash.get(RECORD, None)
    if found is None:
        return report
    if report.passed and (report.when == "setup" or (report.when == "teardown" and not item.config.option.xmlpath)):
        # The call's report tells it. JUnit's file is made from the teardown's.
        report.user_properties = [one for one in report.user_properties if one[0] != report_property.NAME]
    if report.when == "teardown":
        # Items live as long as the session, and there may be a hundred thousand.
        del item.stash[RECORD]
        item.user_properties.clear()
    if report.failed and found.verdict in (Verdict.BROKEN, Verdict.INFRA) and report.when != "teardown":
        report.longrepr = told(found)
    elif report.skipped:
        report.longrepr = (str(SUITE), 0, f"Skipped: incompatible: {escape.line(found.reason or '', 2000)}")
    return report


def told(record: Record) -> str:
    """A record in a few lines of text."""
    check = f"{escape.line(record.check)}: " if record.check else ""
    lines = [f"{record.verdict}: {check}{escape.line(record.reason or '', 2000)}"]
    if record.hint:
        lines.append(f"mend it: {escape.line(record.hint, 2000)}")
    if isinstance(record.evidence, Evidence):
        lines += [
            f"command: {escape.message(record.evidence.command)}",
            f"status: {escape.line(str(record.evidence.status))}",
            escape.output(record.evidence.output),
        ]
    return "\n".join(lines)
