"""The fixtures: what judges a task, and a container of its image for tests of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from taskgate.harness.base.out_files import CACHE
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine.client import first_engine
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.image_provider import DiskLimit
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.verdict import Record
from taskgate.harness.plugin import report_property
from taskgate.harness.plugin.cluster_loop import task_of
from taskgate.harness.plugin.keys import CLUSTER, FOLLOWING, REPLAY, SESSION, SETTINGS, SKIPS
from taskgate.harness.plugin.options import Settings
from taskgate.harness.proof.proof_judge import ProofJudge, ProofSettings
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task

Judge = Callable[[Task], Record]


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Gives the verdict on a task, from the gate, a proof (--prove), a cluster (--cluster) or an earlier run
    (--replay), and attaches it to the case's reports."""
    stash = request.config.stash
    own = "proof_judge" if stash[SETTINGS].prove else "gate"
    source = stash.get(REPLAY, None) or stash.get(CLUSTER, None) or request.getfixturevalue(own)

    def give(task: Task) -> Record:
        record: Record = source.judge(task, request.node.stash.get(FOLLOWING, None))
        request.node.user_properties.append(report_property.stamp(record))
        return record

    return give


@pytest.fixture(scope="session")
def gate(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Gate]:
    """The worker's gate, with an engine connection of its own."""
    settings = pytestconfig.stash[SETTINGS]
    urls = _engines(settings.docker_hosts, getattr(pytestconfig, "workerinput", {}).get("taskgate_number", 0))
    created = Gate(
        lambda: first_engine(urls),
        settings.checks,
        session=pytestconfig.stash[SESSION],
        known=None if settings.recheck else _known_verdicts(pytestconfig),
        disk=_disk_limit(settings),
    )
    # Under xdist every worker gets a share of the cases that is not known yet.
    created.expect(tasks_of(request.session.items), shared=hasattr(pytestconfig, "workerinput"))
    yield created
    created.close()


@pytest.fixture(scope="session")
def proof_judge(pytestconfig: pytest.Config) -> Iterator[ProofJudge]:
    """What proves tasks for this worker, with an engine connection of its own."""
    settings = pytestconfig.stash[SETTINGS]
    urls = _engines(settings.docker_hosts, getattr(pytestconfig, "workerinput", {}).get("taskgate_number", 0))
    created = ProofJudge(
        lambda: first_engine(urls),
        settings.out,
        ProofSettings(settings.prove or 1, offline=settings.offline, recheck=settings.recheck),
        session=pytestconfig.stash[SESSION],
    )
    yield created
    created.close()


@pytest.fixture
def sandbox(task: Task, gate: Gate, pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """A container of the case's image, for tests of your own: `sandbox.sh("…")`."""
    created = Sandbox(gate.engine, task, pytestconfig.stash[SESSION], delivery=gate.delivery(task), prover=gate.prover)
    yield created
    created.close()


def tasks_of(items: Iterable[pytest.Item]) -> Iterator[Task]:
    """The tasks of those items that are cases of one."""
    for item in items:
        if task := task_of(item):
            yield task


def _engines(hosts: list[str], number: int) -> list[str | None]:
    """A worker's own engine first, then the others in case that one is gone."""
    own = number % len(hosts) if hosts else 0
    return [*hosts[own:], *hosts[:own]] or [None]


def _known_verdicts(config: pytest.Config) -> KnownVerdicts:
    settings = config.stash[SETTINGS]
    return KnownVerdicts(
        VerdictCache(settings.out / CACHE, settings.max_age),
        config.stash[SKIPS],
        max_age=settings.max_age,
        list_name=redacted(settings.skip_list),
    )


def _disk_limit(settings: Settings) -> DiskLimit | None:
    if not settings.disk_budget:
        return None
    return DiskLimit(settings.disk_budget, Counter(task.image for task in settings.tasks.values()))
