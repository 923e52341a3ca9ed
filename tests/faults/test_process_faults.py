"""What can happen to our own processes and files: signals at any moment, full and read-only disks, damaged lists."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskgate.harness.gate.skip_entry import Entry
from tests import engines, postgres
from tests.faults.scene import KEPT, LONG, Scene

pytestmark = pytest.mark.slow

Make = Callable[..., Scene]
SLOW = "sandbox.sh('sleep 0.2')"


def test_signals_at_random_moments(make: Make, rows: list[str], long: bool) -> None:
    """Whoever is ended, worker or run, and whenever: what was said is right, the list is whole, the next start clears
    away what is left."""
    here, seed = make(rows=rows if long else rows[:4]), random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    here.check(SLOW)
    for turn in range(50 if long else 3):
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        whom = "worker" if turn % 2 else "run"
        process = here.start("--recheck", "-n", "2")
        time.sleep(chance.uniform(0.2, 3.0 if long else 1.5))
        workers = _children(process.pid)
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers) if whom == "worker" and workers else process.pid, number)
        ended = here.end(process)
        print(turn, whom, number.name, ended.status)
        here.holds(ended, *STATUSES, clean=False, words=False)
        _is_whole(here)
    here.recovers("--recheck", "-n", "2")


# Ends a worker as it is started, before xdist has heard of it, unless there is a file of that name already.
STILLBORN = """
import os, sys
if "import sys;exec(eval(sys.stdin.readline()))" in sys.orig_argv:
    try:
        os.open(f"{folder}/{name}", os.O_CREAT | os.O_EXCL)
        os.kill(os.getpid(), 9)
    except FileExistsError:
        pass
"""


@pytest.mark.parametrize("name, status", [("first", 1), ("{os.getpid()}", 4)])
def test_a_worker_that_dies_as_it_is_started(make: Make, tmp_path: Path, name: str, status: int) -> None:
    """It is started once more; where that one dies as well, it is told that there are no workers."""
    here = make()
    (tmp_path / "site").mkdir()
    text = STILLBORN.replace("{folder}", str(tmp_path / "site")).replace("{name}", name)
    (tmp_path / "site/sitecustomize.py").write_text(text)
    ended = here.run("-n", "2", env={"PYTHONPATH": str(tmp_path / "site")})
    assert (tmp_path / "site/first").exists() == (status == 1)
    here.holds(ended, status)
    assert ("a worker died as it was started" in ended.output) == (status == 4), ended.output
    here.recovers("-n", "2")


# Came too late: 1; without all verdicts: 10; pytest's own for an interrupt: 2.
STATUSES = (1, 2, 10, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_whole(here: Scene) -> None:
    """verdicts.json is there whole or not at all, and no line of the journal but the last one is torn."""
    with suppress(FileNotFoundError):
        json.loads((here.out / "verdicts.json").read_text())
    with suppress(FileNotFoundError):
        for line in (here.out / "journal.jsonl").read_text().splitlines()[:-1]:
            json.loads(line)


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """A mount on `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *how, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _fill(folder: Path) -> Path:
    """Leave no byte there."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=LONG)], ids=["plain", "xdist"])
@pytest.mark.parametrize("where", ["out", "list"])
def test_a_full_disk(make: Make, tmp_path: Path, where: str, workers: tuple[str, ...]) -> None:
    """A disk that is full under the results or under the skip list is told, and costs no more than what it holds."""
    more = ["--html=out/report.html", "--self-contained-html", "--junitxml=out/junit.xml"] if where == "out" else []
    with mounted(tmp_path / where, "-t", "tmpfs", "-o", "size=64k", "tmpfs") as folder:
        here = make()
        filler = _fill(folder)
        ended = here.run(*workers, *more, env={"GITHUB_STEP_SUMMARY": str(folder / "step.md")})
        here.holds(ended, 10)
        assert "No space left on device" in ended.output
        filler.unlink()
        here.recovers(*workers)


@LONG
def test_a_disk_that_fills_up_in_the_middle(make: Make, tmp_path: Path) -> None:
    """What was written before the disk was full is kept."""
    with mounted(tmp_path / "out", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as folder:
        here = make()
        here.check(SLOW)
        process = here.start()
        here.wait_until_judged(process, 2)
        judged = here.journal()
        filler = _fill(folder)
        here.holds(here.end(process), 10)
        assert here.journal()[: len(judged)] == judged
        filler.unlink()
        here.recovers()


def test_a_skip_list_that_is_read_only(make: Make, tmp_path: Path) -> None:
    """A list that can be read and not written serves, and what could not be written is told."""
    here = make()
    with mounted(tmp_path / "list", "--bind", str(tmp_path / "list")) as folder:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        ended = here.run()
        here.holds(ended, 10)
        assert "skip.txt: can't be written: Read-only file system" in ended.output
        assert here.entries() == here.before
    here.recovers()


@pytest.mark.parametrize("damage", ["conflict", *(pytest.param(damage, marks=LONG) for damage in ("nul", "not-text"))])
def test_a_damaged_skip_list(make: Make, damage: str) -> None:
    """A damaged list is a mistake that is told before any image is judged, and stays as it is."""
    here = make()
    path = Path(here.skip_list)
    whole = path.read_bytes()
    torn = {
        "conflict": b"<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\n",
        "nul": bytes(64),
        "not-text": b"\xff\xfe\n",
    }[damage]
    path.write_bytes(whole + torn)
    ended = here.run("-n", "2")
    assert ended.status == 4 and "skip.txt:7: " in ended.output and "Traceback" not in ended.output, ended.output
    assert path.read_bytes() == whole + torn and not here.out.exists()
    path.write_bytes(whole)
    here.recovers()


@pytest.mark.parametrize("workers", [pytest.param((), marks=LONG), ("-n", "2")], ids=["plain", "xdist"])
def test_a_skip_list_that_is_damaged_meanwhile(make: Make, workers: tuple[str, ...]) -> None:
    """A conflict that comes into the list while a run is under way is told at its end, and costs no verdict."""
    here = make()
    path = Path(here.skip_list)
    whole = path.read_bytes()
    # Read when the run has read the list, and before a worker judges.
    here.check(SLOW)
    early = f"pathlib.Path({str(path)!r}).write_bytes({whole!r} + b'<<<<<<< ours\\\\n')"
    check = here.folder / "mine/deadly.py"
    if workers:
        check.write_text(check.read_text() + f"if 'PYTEST_XDIST_WORKER' in os.environ:\n    {early}\n")
    else:
        check.write_text(check.read_text().replace("sandbox.sh", f"{early}; sandbox.sh"))
    ended = here.run(*workers)
    told = here.verdicts()
    path.write_bytes(whole)
    here.holds(ended, 10)
    assert "skip.txt:7: a merge conflict is not resolved" in ended.output
    assert "infra" not in told.values()
    here.check(SLOW)
    here.recovers()


def test_a_skip_list_edited_by_hand_meanwhile(make: Make) -> None:
    """What somebody writes into the list, or takes out of it, while a run is under way stays as they left it."""
    here = make()
    here.check(SLOW)
    process = here.start()
    here.wait_until_judged(process, 2)
    path = Path(here.skip_list)
    lines = [line for line in path.read_text().splitlines() if "elsewhere" not in line]
    path.write_text("\n".join(["# Seen on Monday.", "sound-3", *lines, "by-hand-too"]))
    ended = here.end(process)
    del here.before["elsewhere"]
    here.before |= {name: Entry(name) for name in ("sound-3", "by-hand-too")}
    here.holds(ended, 1)
    assert "elsewhere" not in here.entries() and path.read_text().startswith("# Seen on Monday.\nsound-3\n")


def test_a_truncated_skip_list(make: Make) -> None:
    """A list that was cut in the middle of what is known of an entry serves with what is left of it."""
    here = make()
    path = Path(here.skip_list)
    path.write_text(path.read_text().partition(', "reason"')[0])
    here.before = here.entries()
    assert set(here.before) == {"by-hand"}
    here.recovers()


def test_runs_at_once(tmp_path: Path, daemon: engines.Daemon, rows: list[str], long: bool) -> None:
    """Runs that write the same list at the same time lose nothing of each other's."""
    scenes = []
    for number in range(20 if long else 4):
        (tmp_path / str(number)).mkdir()
        own = [row.replace("{id: broken-", f"{{id: broken-{number}-") for row in rows]
        scenes.append(Scene(tmp_path / str(number), daemon.url, own, skip_list="../skip.txt"))
    for here in scenes:
        here.begin()
    processes = [here.start() for here in scenes]
    every = [here.end(process) for here, process in zip(scenes, processes, strict=True)]
    for here, ended in zip(scenes, every, strict=True):
        assert ended.status == 1, ended.output
        here.before = {task_id: entry for task_id, entry in here.entries().items() if task_id in KEPT}
    ids = {f"broken-{number}-{of}" for number in range(len(scenes)) for of in range(3)}
    assert set(scenes[0].entries()) == ids | KEPT.keys()
    for here, ended in zip(scenes, every, strict=True):
        here.before = here.entries()
        here.holds(ended, 1)


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.running() as made:
        yield made


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=LONG)], ids=["plain", "xdist"])
def test_a_database_that_ends_meanwhile(make: Make, database: postgres.Server, workers: tuple[str, ...]) -> None:
    """A server that is gone at the end costs no verdict and no entry, is told, and the next run makes up for it."""
    here = make(skip_list=database.url)
    here.check(SLOW)
    process = here.start(*workers)
    here.wait_until_judged(process)
    database.kill()
    ended = here.end(process)
    database.start()
    here.holds(ended, 10)
    assert "the database failed" in ended.output and here.entries() == here.before
    here.recovers()


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=LONG), "postgresql"])
def test_a_table_that_is_dropped_meanwhile(
    make: Make, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """A table that somebody drops is made anew, with what this run found out."""
    url = f"sqlite:///{tmp_path}/skip.db" if kind == "sqlite" else request.getfixturevalue("database").url
    here = make(skip_list=url)
    here.check(SLOW)
    process = here.start()
    here.wait_until_judged(process)
    made = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with made.begin() as connection:
        connection.execute(sa.text("drop table taskgate_skip_list"))
    ended = here.end(process)
    here.before = {}
    here.holds(ended, 1)
    assert set(here.entries()) == {"broken-0", "broken-1", "broken-2"}


@LONG
def test_a_database_file_that_is_replaced_meanwhile(make: Make, tmp_path: Path) -> None:
    """A file that is no database any more is told and left as it is."""
    path = tmp_path / "skip.db"
    here = make(skip_list=f"sqlite:///{path}")
    here.check(SLOW)
    process = here.start()
    here.wait_until_judged(process)
    whole = path.read_bytes()
    path.write_bytes(b"no database" * 99)
    ended = here.end(process)
    assert path.read_bytes() == b"no database" * 99
    path.write_bytes(whole)
    here.holds(ended, 10)
    assert "the database failed: file is not a database" in ended.output
    here.recovers()


WRITER = """
import sys
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
for round in range(99):
    entries = [Entry(f"broken-{n}", check=f"round {round}", reason="x" * 1000) for n in range(9000)]
    open_skip_list(sys.argv[1]).update(entries, [])
"""


def test_a_writer_killed_in_the_middle_leaves_nothing_behind(make: Make) -> None:
    """The half of a file that a killed run wrote is removed by the next one that writes the same file."""
    here = make()
    folder = Path(here.skip_list).parent
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, here.skip_list])
        while not (half := [path for path in folder.glob(".skip.txt.*") if path.suffix != ".lock"]):
            assert process.poll() is None
        process.kill()
        process.wait()
        if any(path.exists() for path in half):
            break
    else:
        pytest.fail("no kill came in the middle")
    Path(here.skip_list).write_text("by-hand\n")
    here.before = here.entries()
    here.recovers()
