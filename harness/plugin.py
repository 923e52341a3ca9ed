"""The pytest plugin: options, one case per image, container fixtures; hands what they find to the controller."""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness import options, owner, passport
from taskgate.harness.box import Box
from taskgate.harness.cache import VerdictCache
from taskgate.harness.controller import Controller
from taskgate.harness.engine import first_engine
from taskgate.harness.errors import InfraError, UsageError
from taskgate.harness.gate import Gate
from taskgate.harness.skiplist import open_skip_list
from taskgate.harness.task import Task
from taskgate.harness.verdict import Evidence, Record, Verdict
from taskgate.reports import escape

SUITE = Path(__file__).parent / "suite" / "test_taskgate.py"
SETTINGS = pytest.StashKey[options.Settings]()
SESSION = pytest.StashKey[str]()
RECORD = pytest.StashKey[Record]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.images:
        return
    try:
        worker = getattr(config, "workerinput", None)
        # What a registry has may be another thing a moment later: all workers judge what the controller has seen.
        found = pickle.loads(worker["taskgate_tasks"]) if worker else None  # noqa: S301 # from our own controller
        settings = config.stash[SETTINGS] = options.parse(config, found)
        config.stash[SESSION] = worker["taskgate_session"] if worker else owner.new_session()
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(SUITE)]
        if worker is None:
            config.pluginmanager.register(Controller(config, settings, config.stash[SESSION]), "taskgate-controller")
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if SESSION in node.config.stash:
        node.workerinput["taskgate_session"] = node.config.stash[SESSION]
        node.workerinput["taskgate_tasks"] = pickle.dumps(node.config.stash[SETTINGS].found)


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
        cache=None if settings.recheck else VerdictCache(settings.out / "cache.jsonl", settings.max_age),
        skips=None if settings.recheck else open_skip_list(settings.skip_list).read(),
        max_age=settings.max_age,
        skip_list=settings.skip_list,
    )
    # Under xdist every worker gets its share of the cases, whichever that will be.
    made.expect(_tasks(request.session.items), shared=hasattr(pytestconfig, "workerinput"))
    yield made
    made.close()


def _tasks(items: list[pytest.Item]) -> Iterator[Task]:
    for item in items:
        task = getattr(item, "callspec", None) and item.callspec.params.get("task")  # type: ignore[attr-defined]
        if isinstance(task, Task):
            yield task


@pytest.fixture
def record(task: Task, gate: Gate, request: pytest.FixtureRequest) -> Record:
    """The verdict on the case's image: checked in a container now, or known from before.

    An image of which nothing can be known is an error, one that this host can't run is skipped.
    """
    found = request.node.stash[RECORD] = gate.judge(task)
    request.node.user_properties.append(passport.stamp(found))
    if found.verdict is Verdict.INFRA:
        raise InfraError(found.reason or "")
    if found.verdict is Verdict.INCOMPATIBLE:
        pytest.skip(found.reason or "")
    return found


@pytest.fixture
def box(task: Task, gate: Gate, pytestconfig: pytest.Config) -> Iterator[Box]:
    """A container of the case's image, for tests of your own: `box.sh("…")`."""
    made = Box(gate.engine, task, pytestconfig.stash[SESSION], placement=gate.placement(task), prover=gate.prover)
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a person reads of a failure: reason, hint and evidence instead of a traceback."""
    report = yield
    found = item.stash.get(RECORD, None)
    if found and report.failed and found.verdict in (Verdict.BROKEN, Verdict.INFRA) and report.when != "teardown":
        report.longrepr = told(found)
    elif found and report.skipped:
        report.longrepr = (str(SUITE), 0, f"Skipped: incompatible: {found.reason}")
    return report


def told(record: Record) -> str:
    """A record in a few lines of text."""
    lines = [f"{record.verdict}: {record.check + ': ' if record.check else ''}{escape.line(record.reason or '', 2000)}"]
    if record.hint:
        lines.append(f"mend it: {record.hint}")
    if isinstance(record.evidence, Evidence):
        lines += [
            f"command: {escape.visible(record.evidence.command, keep=chr(10))}",
            f"status: {record.evidence.status}",
            escape.output(record.evidence.output),
        ]
    return "\n".join(lines)
