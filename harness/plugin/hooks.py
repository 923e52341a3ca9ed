"""The pytest plugin: options, one case per image, and what passes between the controller and its workers."""

from __future__ import annotations

import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import CACHE
from taskgate.harness.cluster import node
from taskgate.harness.cluster.cluster import connect
from taskgate.harness.engine import ownership
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.replay import Replay
from taskgate.harness.plugin import hookspecs, options, outcomes, report_property
from taskgate.harness.plugin.case_ids import SUITE, full_path, names_suite
from taskgate.harness.plugin.cluster_loop import ClusterLoop
from taskgate.harness.plugin.controller import Controller
from taskgate.harness.plugin.fixtures import gate, judge, proof_judge, sandbox, tasks_of
from taskgate.harness.plugin.keys import CLUSTER, FOLLOWING, REPLAY, SESSION, SETTINGS, SKIPS
from taskgate.harness.tasks.task import Task
from taskgate.reports import builtin
from taskgate.reports.report import Report, RunContext

# pytest finds fixtures by their names in the plugin's module.
__all__ = ["gate", "judge", "proof_judge", "sandbox"]


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_taskgate_reports(run: RunContext) -> list[Report]:
    return builtin.reports(run)


# Before pytest-html, which makes its folder at once.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.option.images:
        return
    try:
        worker = getattr(config, "workerinput", None)
        if worker:
            _configure_worker(config, worker)
        else:
            _configure_controller(config)
        if (replay := config.stash[SETTINGS].replay) is not None:
            config.stash[REPLAY] = Replay(replay)
    except UsageError as error:
        raise pytest.UsageError(escape.message(str(error))) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise pytest.UsageError(escape.message(f"{error.filename or 'a file'}: {error.strerror}")) from error
    _add_suite(config)


def _configure_controller(config: pytest.Config) -> None:
    settings = config.stash[SETTINGS] = options.parse(config)
    config.stash[SESSION] = ownership.new_session()
    controller = Controller(config, settings, config.stash[SESSION])
    controller.check_writable()
    # Read once: what happens to the list meanwhile matters at the end only.
    config.stash[SKIPS] = controller.recorder.skips
    config.pluginmanager.register(controller, "taskgate-controller")
    controller.add_reports()
    if settings.cluster:
        config.stash[CLUSTER] = _cluster_loop(config, settings)
        config.pluginmanager.register(config.stash[CLUSTER], "taskgate-cluster")


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


def _configure_worker(config: pytest.Config, given: dict[str, Any]) -> None:
    """A worker judges what the controller has read: files and registries may change, or be on another host."""
    tasks = pickle.loads(given["taskgate_tasks"])  # noqa: S301 # from our own controller
    config.stash[SETTINGS] = options.parse(config, tasks)
    config.stash[SESSION] = given["taskgate_session"]
    config.stash[SKIPS] = pickle.loads(given["taskgate_skips"])  # noqa: S301


def _add_suite(config: pytest.Config) -> None:
    """With --images the images are always judged, whatever other tests the command line names."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(SUITE)]
        return
    config.args = [full_path(arg) for arg in config.args]
    if not any(names_suite(arg, config.invocation_params.dir) for arg in config.args):
        config.args = [*config.args, str(SUITE)]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # the name that xdist gives it
    if SESSION not in node.config.stash:
        return
    controller = node.config.pluginmanager.getplugin("taskgate-controller")
    node.workerinput["taskgate_session"] = node.config.stash[SESSION]
    # Workers may have any name.
    node.workerinput["taskgate_number"] = controller.next_worker()
    node.workerinput["taskgate_tasks"] = pickle.dumps(list(node.config.stash[SETTINGS].tasks.values()))
    node.workerinput["taskgate_skips"] = pickle.dumps(node.config.stash[SKIPS])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """In a clone, `harness` is a folder on the way to the suite, not a top-level package to import."""
    if path == SUITE.parent.parent:
        return pytest.Dir.from_parent(parent, path=path)
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The suite's node ids are short, wherever it is installed; `full_path` finds it again by them."""
    if module_path == SUITE:
        return pytest.Module.from_parent(parent, path=module_path, nodeid=SUITE.name)
    return None


def pytest_itemcollected(item: pytest.Item) -> None:
    """What pytest shows beside a node id is the same everywhere as well."""
    if item.path == SUITE:
        item.location = (SUITE.name, item.location[1], item.location[2])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "task" in metafunc.fixturenames and SETTINGS in metafunc.config.stash:
        metafunc.parametrize("task", list(metafunc.config.stash[SETTINGS].tasks.values()))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Ids as the manifest has them: pytest would escape what isn't ASCII and shorten what is long."""
    return val.id if isinstance(val, Task) else None


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The next image is pulled while this one is checked."""
    item.stash[FOLLOWING] = next(tasks_of([nextitem] if nextitem else []), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcomes.as_error(report, call)
    if call.when == "teardown":
        report_property.drop(item, report)
    return report
