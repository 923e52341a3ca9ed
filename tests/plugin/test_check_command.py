"""`taskgate check`: the gate without pytest's own words; and the small commands beside it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
from tests.running import TASKGATE

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def rows(client: Any, sound: str) -> str:
    lost = images.build(client, "taskgate-test/lost:1", f"FROM {sound}\nRUN rm /usr/bin/git")
    return f"- {{id: good, image: '{sound}'}}\n- {{id: bad, image: '{lost}'}}\n"


@pytest.fixture
def taskgate(tmp_path: Path) -> Run:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GITHUB_", "COV_CORE"))}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TASKGATE, *args], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_it_judges_as_pytest_does_and_says_no_more_than_the_gate(taskgate: Run, rows: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(HEAD + rows)
    # A project's own settings and tests play no part.
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit(7)\n")
    done = taskgate("check", "m.yaml", "-j", "1", "--html=r.html", "--junitxml=j.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("gate: exit 1: 1 broken")
    assert re.search(r"^\[2/2]  healthy 1  broken 1  ETA 00:00$", done.stdout, re.M), done.stdout
    assert "2 images: 1 healthy, 1 broken" in done.stdout and "git_available: there is no git on PATH" in done.stdout
    assert re.search(r"^ +fix: \S+", done.stdout, re.M), done.stdout
    assert not re.search(r"test_image|test_taskgate|passed|rootdir|short test summary", done.stdout), done.stdout
    assert (tmp_path / "r.html").exists() and 'classname="test_taskgate"' in (tmp_path / "j.xml").read_text()
    verdicts = json.loads((tmp_path / "results/preflight/verdicts.json").read_text())
    assert [task["task_id"] for task in verdicts["tasks"]] == ["good", "bad"]
    one = taskgate("check", "m.yaml", "--only=good", "--recheck", "--max-broken=0", "-j", "1")
    assert one.returncode == 0 and "1 image: 1 healthy" in one.stdout, one.stdout
    assert taskgate("check", "m.yaml", "--max-broken=50%", "-j", "2").stdout.rstrip().endswith("1 broken, 50% allowed")


def test_several_sources_are_one_set(taskgate: Run, rows: str, tmp_path: Path) -> None:
    for name, row in zip(("a.yaml", "b.yaml"), rows.splitlines(), strict=True):
        (tmp_path / name).write_text(f"{HEAD}{row}\n")
    done = taskgate("check", "a.yaml", "b.yaml", "-j", "1", "--out=o")
    assert done.returncode == 1 and "2 images: 1 healthy, 1 broken" in done.stdout, done.stdout + done.stderr
    twice = taskgate("check", "a.yaml", "a.yaml")
    assert twice.returncode == 4 and "a.yaml: the id 'good' is in another SOURCE as well" in twice.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.yaml"], "none.yaml"),
        (["https://example.org/m.yaml"], "is a web address"),
        (["m.yaml", "--jobs=some"], "--jobs: must be a number"),
        (["m.yaml", "--balance=x"], "--balance: needs --shard"),
        (["m.yaml", "--out=m.yaml/x"], "--out: "),
        ([], "SOURCE"),
    ],
)
def test_mistakes(taskgate: Run, rows: str, tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "m.yaml").write_text(HEAD + rows)
    done = taskgate("check", *args)
    assert done.returncode == 4 and message in done.stdout + done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_on_a_terminal_there_is_a_bar(taskgate: Run, rows: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(HEAD + rows)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*TASKGATE, "check", "m.yaml", "-j", "1"], cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(controller)
    assert process.wait() == 1 and "[2/2]  healthy 1  broken 1" in output.decode(), output.decode()


def test_the_version(taskgate: Run) -> None:
    assert re.fullmatch(r"taskgate \d+\.\d+\.\d+\S*\n", taskgate("--version").stdout)


def test_shell_completion() -> None:
    """As argcomplete's shell hook calls it."""
    env = {**os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout", "COMP_LINE": "taskgate ch"}
    env |= {"COMP_POINT": "11", "_ARGCOMPLETE_IFS": "\n", "COMP_TYPE": "9", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    done = subprocess.run(TASKGATE, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "check", done


def test_init(taskgate: Run, rows: str, tmp_path: Path) -> None:
    done = taskgate("init", "-o", "first.yaml")
    assert done.returncode == 0 and "taskgate check first.yaml" in done.stdout, done.stderr
    text = (tmp_path / "first.yaml").read_text()
    assert "#" in text and taskgate("manifest", "first.yaml").returncode == 0
    again = taskgate("init", "-o", "first.yaml")
    assert again.returncode == 4 and "--force" in again.stderr and (tmp_path / "first.yaml").read_text() == text
    # Without an engine there is an example that only wants another name.
    empty = taskgate("init", "-o", "empty.yaml", "--docker-host=unix:///no/such.sock")
    assert empty.returncode == 0 and "- id: first" in (tmp_path / "empty.yaml").read_text()
    assert taskgate("manifest", "empty.yaml").returncode == 0
    (tmp_path / "m.yaml").write_text(HEAD + rows)
    assert taskgate("init", "m.yaml", "-o", "own.yaml").returncode == 0
    assert "id: good" in (tmp_path / "own.yaml").read_text()


@pytest.mark.parametrize("where", ["list.txt", "sqlite:///list.db"])
def test_the_skip_list_by_hand(taskgate: Run, tmp_path: Path, where: str) -> None:
    path = where if "://" not in where else f"sqlite:///{tmp_path}/list.db"
    skip_list = open_skip_list(path if "://" in path else str(tmp_path / path))
    found = Entry(
        "bad", check="tmp", reason="gone", image="x:1", digest="sha256:0", first="2026-01-02", last="2026-03-04"
    )
    skip_list.update([found, Entry("by-hand")], [])
    show = taskgate("skips", "show", f"--skip-list={path}").stdout
    assert "bad  2026-01-02 to 2026-03-04  tmp: gone  x:1" in show and "by-hand  added by hand" in show
    assert taskgate("skips", "add", "new", "bad", f"--skip-list={path}").returncode == 0
    assert {task_id for task_id, entry in skip_list.read().items() if entry.by_hand} == {"new", "bad", "by-hand"}
    missing = taskgate("skips", "remove", "bad", "none", f"--skip-list={path}")
    assert missing.returncode == 4 and "not listed: 'none'" in missing.stderr and "bad" in skip_list.read()
    assert taskgate("skips", "remove", "bad", "by-hand", f"--skip-list={path}").returncode == 0
    assert set(skip_list.read()) == {"new"}
    wrong = taskgate("skips", "add", "#x", f"--skip-list={path}")
    assert wrong.returncode == 4 and "Traceback" not in wrong.stderr


def test_pruning_all_runtimes_must_be_meant(taskgate: Run) -> None:
    done = taskgate("runtime", "prune")
    assert done.returncode == 4 and "--all" in done.stderr, done.stderr
    assert taskgate("runtime", "prune", "--dry-run", "--all").returncode == 0
    assert taskgate("runtime", "list").returncode == 0


def test_the_extra_that_a_database_needs_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from taskgate.harness.gate.skip_list import open_skip_list\n"
        "try: open_skip_list('postgresql://h/x')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'taskgate[postgresql]'" in done.stdout, done.stdout + done.stderr
