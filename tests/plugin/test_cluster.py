"""`--cluster`: the same verdicts, files and exit status as without, whatever happens to the nodes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dask_nodes
from tests.conftest import Gate, Run

pytestmark = pytest.mark.slow

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"
# A check of the test's own that takes a while, and that ends its worker where a file asks for it.
SLOW = """
import os, pathlib, signal
from taskgate.checks import check

@check(after="shell")
def slow(sandbox):
    '''It takes a while.'''
    if sandbox.task.id == os.environ.get("POISON"):
        os.kill(os.getpid(), signal.SIGKILL)
    if sandbox.sh("sleep 0.5").code:
        yield "it was interrupted"
"""


@pytest.fixture
def manifest(sound: str) -> str:
    return f"{HEAD}- {{id: one, image: '{sound}'}}\n- {{id: two, image: '{sound}', require: {{commands: [no-such]}}}}\n"


def test_the_verdicts_of_a_cluster(gate: Gate, manifest: str) -> None:
    run = gate(manifest, "--cluster=local:2")
    assert run.status == 1, run.output
    assert {task: record["verdict"] for task, record in run.tasks.items()} == {"one": "healthy", "two": "broken"}
    assert run.listed == {"two"} and "1 failed, 1 passed" in run.output
    again = gate(manifest, "--cluster=local:2")
    assert again.status == 1 and all(record["cached"] for record in again.tasks.values())


def test_options_of_pytest(gate: Gate, manifest: str) -> None:
    run = gate(manifest, "--cluster=local:1", "-k", "one", "--junitxml=junit.xml")
    assert run.status == 0 and "1 passed" in run.output and (run.folder / "junit.xml").exists()
    assert gate(manifest, "--cluster=local:1", "-n", "2").status == 4


class Session:
    """The gate on a cluster of its own, as a process that goes on while a test acts."""

    def __init__(self, folder: Path, image: str, count: int) -> None:
        self.folder = folder
        rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number in range(count))
        (folder / "m.yaml").write_text(HEAD + rows)
        (folder / "checks").mkdir()
        (folder / "checks/slow.py").write_text(SLOW)

    def start(self, cluster: Path) -> None:
        command = [
            sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", f"--cluster={cluster}",
            "--check-path=checks",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def judged(self, count: int) -> None:
        """Wait until so many images are judged."""
        journal = self.folder / "results/preflight/journal.jsonl"
        for _ in range(1200):
            if journal.exists() and len(journal.read_text().splitlines()) >= count:
                return
            assert self._process.poll() is None, self._process.communicate()[0]
            time.sleep(0.1)
        raise AssertionError(f"{count} images were not judged")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def end(self) -> Run:
        output = self._process.communicate(timeout=280)[0]
        return Run(self._process.returncode, output, self.folder)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dask_nodes.Nodes]:
    monkeypatch.setenv("POISON", "poison")
    with dask_nodes.nodes(tmp_path) as nodes:
        yield nodes


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_lost_worker_costs_no_verdict(
    cluster: dask_nodes.Nodes, sound: str, tmp_path: Path, number: signal.Signals
) -> None:
    session = Session(tmp_path, sound, 24)
    victim, _ = cluster.worker(), cluster.worker()
    session.start(cluster.file)
    session.judged(4)
    victim.send_signal(number)
    run = session.end()
    assert run.status == 0, run.output
    assert len(run.tasks) == 24 and {record["verdict"] for record in run.tasks.values()} == {"healthy"}


@pytest.mark.slow
def test_the_schedulers_death_ends_the_run_and_the_next_one_goes_on(
    cluster: dask_nodes.Nodes, sound: str, tmp_path: Path
) -> None:
    session = Session(tmp_path, sound, 12)
    cluster.worker()
    session.start(cluster.file)
    session.judged(3)
    cluster.scheduler.kill()
    run = session.end()
    assert run.status == 10 and "scheduler is gone" in run.output, run.output
    known = len(run.tasks)
    assert 3 <= known < 12
    (tmp_path / "again").mkdir()
    with dask_nodes.nodes(tmp_path / "again") as other:
        other.worker()
        session.start(other.file)
        run = session.end()
    assert run.status == 0 and len(run.tasks) == 12, run.output
    assert sum(record["cached"] for record in run.tasks.values()) >= known


@pytest.mark.slow
def test_a_controller_that_is_killed_goes_on_from_its_cache(
    cluster: dask_nodes.Nodes, sound: str, tmp_path: Path
) -> None:
    session = Session(tmp_path, sound, 12)
    cluster.worker()
    session.start(cluster.file)
    session.judged(3)
    session.kill()
    session.start(cluster.file)
    run = session.end()
    assert run.status == 0 and len(run.tasks) == 12, run.output
    assert sum(record["cached"] for record in run.tasks.values()) >= 3


@pytest.mark.slow
def test_an_image_whose_check_kills_workers_is_infra_and_named(
    cluster: dask_nodes.Nodes, sound: str, tmp_path: Path
) -> None:
    session = Session(tmp_path, sound, 4)
    (tmp_path / "m.yaml").write_text(f"{(tmp_path / 'm.yaml').read_text()}- {{id: poison, image: '{sound}'}}\n")
    for _ in range(5):
        cluster.worker(slots=1)
    session.start(cluster.file)
    run = session.end()
    verdicts = {task: record["verdict"] for task, record in run.tasks.items()}
    assert run.status == 10 and verdicts.pop("poison") == "infra", run.output
    assert set(verdicts.values()) == {"healthy"} and len(verdicts) == 4
    assert "the workers that judged it died" in run.tasks["poison"]["reason"] and not run.listed


@pytest.mark.slow
def test_a_worker_with_other_checks_is_refused(cluster: dask_nodes.Nodes, sound: str, tmp_path: Path) -> None:
    session = Session(tmp_path, sound, 1)
    cluster.worker()
    session.start(cluster.file)
    assert session.end().status == 0
    (tmp_path / "checks/slow.py").write_text(SLOW + "# changed\n")
    session.start(cluster.file)
    run = session.end()
    assert run.status == 4 and "its checks differ from the controller's: slow" in run.output, run.output
    assert (tmp_path / "results/preflight/verdicts.json").exists()
