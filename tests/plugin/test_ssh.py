"""Workers on other hosts, by pytest-xdist's own --tx: two hosts, one of which is cut off, or both."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import sshhosts
from tests.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts() -> Iterator[list[sshhosts.Host]]:
    with sshhosts.hosts(2) as made:
        yield made


class Session:
    """The gate on workers of these hosts, one on each."""

    def __init__(self, folder: Path, hosts: list[sshhosts.Host], image: str, count: int) -> None:
        self._folder = folder
        rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number in range(count))
        (folder / "m.yaml").write_text(f"version: 1\ndefaults: {{pull: never, repo_path: /testbed}}\ntasks:\n{rows}")
        (folder / "remote").mkdir()
        self._command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", "--dist=load"]
        for host in hosts:
            where = f"ssh=-F {host.config} {host.name}//python={sys.executable}//chdir={folder / 'remote'}"
            self._command += ["--tx", where]

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def judged(self, count: int) -> None:
        """Wait until so many images are judged."""
        journal = self._folder / "results/preflight/journal.jsonl"
        for _ in range(600):
            if journal.exists() and len(journal.read_text().splitlines()) >= count:
                return
            time.sleep(0.1)
        raise AssertionError(f"{count} images were not judged")

    def end(self) -> Run:
        output = self._process.communicate(timeout=200)[0]
        return Run(self._process.returncode, output, self._folder)


def test_two_hosts(hosts: list[sshhosts.Host], sound: str, tmp_path: Path) -> None:
    session = Session(tmp_path, hosts, sound, 8)
    session.start()
    run = session.end()
    assert run.status == 0 and len(run.tasks) == 8, run.output


def test_one_host_is_cut_off(hosts: list[sshhosts.Host], sound: str, tmp_path: Path) -> None:
    """Its images go to the other, the one that it was at among them."""
    session = Session(tmp_path, hosts, sound, 60)
    session.start()
    session.judged(4)
    hosts[1].cut_off()
    run = session.end()
    assert run.status == 0, run.output
    assert {task["verdict"] for task in run.tasks.values()} == {"healthy"} and len(run.tasks) == 60
    assert "no worker can be started in its place" in run.output and "Traceback" not in run.output


def test_all_hosts_are_cut_off(hosts: list[sshhosts.Host], sound: str, tmp_path: Path) -> None:
    """The gate fails closed, and what was judged is known."""
    session = Session(tmp_path, hosts, sound, 60)
    session.start()
    session.judged(4)
    for host in hosts:
        host.cut_off()
    run = session.end()
    assert run.status == 10 and "Traceback" not in run.output, run.output
    assert not run.verdicts["complete"] and run.verdicts["unchecked"]
    assert run.verdicts["counts"]["healthy"] >= 4 and run.verdicts["counts"]["broken"] == 0
    assert run.listed == set()


def test_a_host_that_nobody_finds(hosts: list[sshhosts.Host], sound: str, tmp_path: Path) -> None:
    hosts[0].cut_off()
    session = Session(tmp_path, hosts[:1], sound, 2)
    session.start()
    run = session.end()
    assert run.status == 4 and "Traceback" not in run.output, run.output
    assert re.search(rf"--tx: .*{hosts[0].name}", run.output)
