"""The skip list as a database table, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskgate.harness.base.errors import SkipListError
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
from tests import postgres

FULL = Entry("a__b-1", "git_repo", "broken\0 badly 名", "i:1", "sha256:1", "f", "2026-01-01", "2026-01-02", "r")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'skip.db'}"
    where: str = request.getfixturevalue("server")
    made = sa.create_engine(where.replace("postgresql:", "postgresql+psycopg:"))
    with made.begin() as connection:
        connection.execute(sa.text("drop table if exists taskgate_skip_list"))
    made.dispose()
    return where


def test_entries_come_back(url: str) -> None:
    skips = open_skip_list(url)
    assert skips.read() == {}
    skips.update([FULL], ["other"])
    (entry,) = skips.read().values()
    assert entry.reason == "broken badly 名" and entry.digest == FULL.digest
    skips.update([Entry(FULL.task_id, check="tmp", first="2027", last="2027")], [])
    assert skips.read() == {FULL.task_id: Entry(FULL.task_id, check="tmp", first="2026-01-01", last="2027")}
    skips.update([], [FULL.task_id])
    assert skips.read() == {}


def test_rows_by_hand_stay(url: str) -> None:
    skips = open_skip_list(url)
    skips.update([FULL], [])
    made = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with made.begin() as connection:
        connection.execute(sa.text("insert into taskgate_skip_list (task_id) values ('by-hand')"))
    made.dispose()
    skips.update([Entry("by-hand", check="tmp")], ["by-hand", FULL.task_id])
    assert skips.read() == {"by-hand": Entry("by-hand")}


WRITER = """
import sys
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
url, number = sys.argv[1:]
for n in range(4):
    entries = [Entry(f"job{number}-{n}", check="tmp"), Entry("shared", check=number)]
    open_skip_list(url).update(entries, [f"job{number}-{n - 1}"] if n == 3 else [])
"""


def test_jobs_at_once_lose_nothing(url: str) -> None:
    jobs = [subprocess.Popen([sys.executable, "-c", WRITER, url, str(n)]) for n in range(8)]
    assert [job.wait(timeout=120) for job in jobs] == [0] * 8
    assert set(open_skip_list(url).read()) == {f"job{j}-{n}" for j in range(8) for n in (0, 1, 3)} | {"shared"}


def test_jobs_that_take_out_what_others_put_in_do_not_lock_each_other(server: str) -> None:
    skips = open_skip_list(server)
    skips.update([], list(skips.read()))
    skips.update([Entry(task_id, check="tmp") for task_id in ("a", "b", "y", "z")], [])
    made = sa.create_engine(server.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    waiting = sa.text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    with ThreadPoolExecutor(2) as pool:
        with made.begin() as holder:
            # Each job stops half-way, at y or z, until both are under way.
            holder.execute(sa.text("select * from taskgate_skip_list where task_id in ('y', 'z') for update"))
            jobs = [
                pool.submit(skips.update, [Entry(mine, check="git"), Entry(last, check="git")], [other])
                for mine, last, other in (("a", "y", "b"), ("b", "z", "a"))
            ]
            deadline = time.monotonic() + 60
            with made.connect() as watcher:
                while watcher.execute(waiting).scalar() != 2:
                    assert time.monotonic() < deadline, "the jobs did not get as far"
                    watcher.rollback()
                    time.sleep(0.02)
        assert [job.exception() for job in jobs] == [None, None]
    # One after the other: the later one takes out what the earlier one put in.
    assert set(skips.read()) in ({"a", "y", "z"}, {"b", "y", "z"})


def test_a_text_that_no_database_takes_is_told_apart(url: str) -> None:
    skips = open_skip_list(url)
    skips.update([Entry("x", reason="half \ud800 pair")], [])
    assert skips.read()["x"].reason == "half \\ud800 pair"
    with pytest.raises(SkipListError):
        skips.update([Entry("y", check="tmp"), Entry("#z", check="tmp")], [])
    assert set(skips.read()) == {"x"}


def test_to_put_in_outweighs_to_take_out(url: str) -> None:
    skips = open_skip_list(url)
    skips.update([FULL], [FULL.task_id])
    assert set(skips.read()) == {FULL.task_id}


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense://x",
        "mysql://x/y",
        "://",
        "sqlite://",
        "sqlite:////no/such/folder/x.db",
        "postgresql://u:secret@127.0.0.1:1/x",
        "postgresql://u:secret/2@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=u&password=secret",
    ],
)
def test_what_can_not_be_used_is_told(bad: str) -> None:
    with pytest.raises(SkipListError) as told:
        open_skip_list(bad).read()
    assert "secret" not in str(told.value)
