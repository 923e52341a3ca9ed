"""The skip list as a text file: what is known is kept, what is written by hand is never lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import SkipListError
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.gate.skip_text import TextSkipList
from taskgate.harness.gate.verdict import Record, Verdict

FULL = Entry("a__b-1", "git_repo", "it's broken\nbadly", "i:1", "sha256:1", "f", "2026-01-01", "2026-01-02", "r")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "known broken.txt"


def test_an_entry_comes_back_as_it_was(path: Path) -> None:
    skips = open_skip_list(str(path))
    skips.update([FULL], [])
    assert skips.read() == {FULL.task_id: FULL}
    assert subprocess.run(["grep", "-q", f"^{FULL.task_id}$", path], check=False).returncode == 0
    skips.update([], [FULL.task_id])
    assert skips.read() == {}


def test_the_first_date_stays(path: Path) -> None:
    skips = open_skip_list(str(path))
    skips.update([FULL], [])
    skips.update([Entry(FULL.task_id, check="tmp", first="2027", last="2027")], [])
    assert skips.read()[FULL.task_id] == Entry(FULL.task_id, check="tmp", first="2026-01-01", last="2027")


def test_what_is_written_by_hand_stays(path: Path) -> None:
    path.parent.mkdir()
    text = "# why we skip these\n\nby-hand\n# {not json\nother\n"
    path.write_text(text)
    skips = open_skip_list(str(path))
    assert skips.read()["by-hand"].by_hand and skips.read()["other"].by_hand
    skips.update([Entry("by-hand", check="tmp"), FULL], ["other"])
    assert path.read_text().startswith(text)
    assert set(skips.read()) == {"by-hand", "other", FULL.task_id}


def test_nothing_to_do_writes_nothing(path: Path) -> None:
    skips = open_skip_list(str(path))
    skips.update([], ["x"])
    assert not path.exists() and skips.read() == {}


def test_a_symlink_and_a_mode_stay(path: Path) -> None:
    path.parent.mkdir()
    target = path.parent / "target"
    target.write_text("")
    target.chmod(0o640)
    path.symlink_to(target)
    open_skip_list(str(path)).update([FULL], [])
    assert path.is_symlink() and target.stat().st_mode & 0o777 == 0o640
    assert FULL.task_id in target.read_text()


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n", 2), (b"a\nb\n\xff\xfe\n", 3), (b"a\nb\0c\n", 2)],
)
def test_a_damaged_file_is_told_and_left_alone(path: Path, data: bytes, line: int) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    for act in (lambda: open_skip_list(str(path)).read(), lambda: open_skip_list(str(path)).update([FULL], [])):
        with pytest.raises(SkipListError) as told:
            act()
        assert told.value.line == line and str(path) in str(told.value)
    assert path.read_bytes() == data


def test_an_id_that_would_be_two_lines_is_refused(path: Path) -> None:
    for task_id in ("a\nb", "#a", " a", "", "=======", "<<<<<<< a"):
        with pytest.raises(SkipListError):
            open_skip_list(str(path)).update([Entry(task_id)], [])


def test_a_directory_in_its_place_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SkipListError, match="can't be read"):
        open_skip_list(str(path)).read()


WRITER = """
import sys
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
where, number = sys.argv[1:]
for n in range(5):
    gone = [f"job{number}-{n - 1}"] if n == 4 else []
    open_skip_list(where).update([Entry(f"job{number}-{n}", check="tmp", reason="x")], gone)
"""


def test_twenty_jobs_at_once_lose_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("by-hand\n")
    jobs = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)]) for n in range(20)]
    assert [job.wait(timeout=120) for job in jobs] == [0] * 20
    expected = {f"job{number}-{n}" for number in range(20) for n in (0, 1, 2, 4)} | {"by-hand"}
    assert set(open_skip_list(str(path)).read()) == expected


IDS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda text: (
        not text.startswith("#")
        and text.isprintable()
        and not text.startswith(("<<<<<<<", ">>>>>>>", "=======", "|||||||"))
    )
)
TEXTS = st.none() | st.text(max_size=30).filter(bool)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(Entry, IDS, TEXTS, TEXTS, TEXTS), max_size=6, unique_by=lambda entry: entry.task_id))
def test_any_entries_come_back(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    skips = TextSkipList(tmp_path_factory.mktemp("s") / "list")
    skips.update(entries, [])
    assert skips.read() == {entry.task_id: entry for entry in entries}


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=200))
def test_no_line_of_any_file_is_lost(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("s") / "list"
    path.write_bytes(text.encode())
    skips = TextSkipList(path)
    try:
        skips.update([FULL], [])
    except SkipListError:
        assert path.read_bytes() == text.encode()
        return
    after = path.read_bytes().decode().split("\n")
    for line in text.split("\n"):
        assert line == "" or line in after
    assert skips.read()[FULL.task_id].task_id == FULL.task_id


def test_known_lines_are_one_line_each(path: Path) -> None:
    open_skip_list(str(path)).update([Entry("x", reason="a\nb\u2028c\x85d")], [])
    lines = path.read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[0][2:])["reason"]


def test_an_id_that_a_merge_doubled_is_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('# {"check": "a", "first": "2026"}\nx\n# {"check": "b"}\nx\nhand\n# {"check": "b"}\nhand\n')
    skips = open_skip_list(str(path))
    assert skips.read()["hand"].by_hand
    skips.update([Entry("x", check="new", first="2027")], [])
    assert skips.read()["x"] == Entry("x", check="new", first="2026")
    skips.update([], ["x", "hand"])
    assert set(skips.read()) == {"hand"} and skips.read()["hand"].by_hand


def test_what_is_known_of_one_id_is_not_taken_for_another(path: Path) -> None:
    skips = open_skip_list(str(path))
    skips.update([Entry("machine", check="tmp")], [])
    path.write_text(path.read_text().replace("\nmachine\n", "\nmine\n"))
    skips.update([], ["mine"])
    assert skips.read() == {"mine": Entry("mine")}


def test_lines_of_older_lists_and_of_other_editors_are_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'\xef\xbb\xbfone\r\n# {"check": "tmp"}\r\ntwo\r\n# {"check": "t\r\nthree')
    skips = open_skip_list(str(path))
    assert skips.read() == {"one": Entry("one"), "two": Entry("two", check="tmp"), "three": Entry("three")}
    skips.update([], ["one", "three"])
    assert path.read_bytes().startswith(b"\xef\xbb\xbfone\r\n")


def test_a_comment_nested_beyond_reason_is_a_comment(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('# {"a":' + "[" * 200_000 + "\nx\n")
    assert open_skip_list(str(path)).read() == {"x": Entry("x")}


def test_what_is_no_file_is_told_and_not_replaced(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    for act in (lambda: open_skip_list(str(path)).read(), lambda: open_skip_list(str(path)).update([], ["x"])):
        with pytest.raises(SkipListError, match="not a regular file"):
            act()
    with pytest.raises(SkipListError, match="not a regular file"):
        open_skip_list(str(path)).update([FULL], [])
    assert list(path.parent.iterdir()) == [path] and path.is_fifo()


def test_links_that_go_in_a_circle_are_told(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path)
    for act in (lambda: open_skip_list(str(path)).read(), lambda: open_skip_list(str(path)).update([FULL], [])):
        with pytest.raises(SkipListError, match=r"known broken\.txt"):
            act()


def test_a_link_to_nothing_yet_is_followed(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "other" / "list")
    open_skip_list(str(path)).update([FULL], [])
    assert path.is_symlink() and open_skip_list(str(path)).read() == {FULL.task_id: FULL}


def test_a_full_disk_is_told_and_the_old_list_stays(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("by-hand\n")
    code = """
import resource, sys
from taskgate.harness.base.errors import SkipListError
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    open_skip_list(sys.argv[1]).update([Entry("x", reason="r" * 5000)], [])
except SkipListError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{path}: can't be written: File too large"
    assert path.read_text() == "by-hand\n"
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f".{path.name}.lock"}


BUSY = """
import sys
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list
skips = open_skip_list(sys.argv[1])
ids = [f"t{n}" for n in range(500)]
while True:
    skips.update([Entry(i, check="tmp", reason="x" * 200) for i in ids], [])
    print(flush=True)
    skips.update([], ids)
"""


def test_a_killed_writer_leaves_a_whole_list(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("# ours\nby-hand\n")
    whole = {"by-hand"} | {f"t{n}" for n in range(500)}
    for kill in range(8):
        with subprocess.Popen([sys.executable, "-c", BUSY, path], stdout=subprocess.PIPE) as job:
            assert job.stdout
            for _ in range(kill % 3 + 1):
                job.stdout.readline()
            # Not the same point of an update each time.
            time.sleep(kill * 0.003)
            job.kill()
        assert path.read_text().startswith("# ours\nby-hand\n")
        assert set(open_skip_list(str(path)).read()) in ({"by-hand"}, whole)
    open_skip_list(str(path)).update([FULL], [])
    assert FULL.task_id in open_skip_list(str(path)).read()


def test_an_entry_is_not_first_seen_after_it_was_last_seen() -> None:
    record = Record("x", "i:1", "sha256:0", "linux/amd64", Verdict.BROKEN, check="tmp", started="2026-01-02T00:00:00")
    entry = Entry.of(record, "run")
    assert (entry.first, entry.last) == ("2026-01-02T00:00:00", "2026-01-02T00:00:00")
