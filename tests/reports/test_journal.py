"""journal.jsonl: a line for each image as it is judged, whatever becomes of the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import InfraError, NoSpace
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.reports import journal
from taskgate.reports.journal import Journal


def record(task_id: str, reason: str | None = None) -> Record:
    return Record(task_id, "i", "d", "linux/amd64", Verdict.BROKEN, check="tmp", reason=reason)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "journal.jsonl"


def test_each_record_is_there_as_soon_as_it_is_written(path: Path) -> None:
    assert list(journal.read(path)) == []
    kept = Journal(path)
    for number in range(3):
        kept.write(record(f"t{number}"))
        assert list(journal.read(path))[number:] == [record(f"t{number}").as_dict()]


def test_the_next_run_adds_to_it(path: Path) -> None:
    Journal(path).write(record("one"))
    Journal(path).write(record("two"))
    assert [line["task_id"] for line in journal.read(path)] == ["one", "two"]


def test_a_torn_or_damaged_line_costs_only_itself(path: Path) -> None:
    Journal(path).write(record("one"))
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[1]\n\0\n" + b'{"task_id": "torn')
    assert [line["task_id"] for line in journal.read(path)] == ["one"]
    Journal(path).write(record("two"))
    assert [line["task_id"] for line in journal.read(path)] == ["one", "two"]


def joined(text: str) -> str:
    """`text` with the halves of surrogate pairs joined, as JSON does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters()))
def test_any_text_is_one_line_and_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    Journal(path).write(record("t", text))
    assert len(path.read_text().splitlines()) == 1
    assert [line["reason"] for line in journal.read(path)] == [joined(text)]


WRITER = """
import sys
from pathlib import Path
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.reports.journal import Journal
journal, n = Journal(Path(sys.argv[1])), 0
while n < int(sys.argv[3]):
    journal.write(Record(f"{sys.argv[2]}-{n}", "i", None, None, Verdict.INFRA, reason="x" * 9000))
    print(n, flush=True)
    n += 1
"""


def test_a_killed_run_leaves_all_that_it_told_of(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, path, "a", "999999"], stdout=subprocess.PIPE) as job:
        assert job.stdout
        for _ in range(50):
            job.stdout.readline()
        job.kill()
    Journal(path).write(record("next"))
    ids = [line["task_id"] for line in journal.read(path)]
    assert ids[:50] == [f"a-{n}" for n in range(50)] and ids[-1] == "next"


def test_runs_at_once_do_not_mix_their_lines(path: Path) -> None:
    jobs = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name, "100"], stdout=subprocess.DEVNULL)
        for name in ("a", "b", "c", "d")
    ]
    assert [job.wait(timeout=120) for job in jobs] == [0] * 4
    assert {line["task_id"] for line in journal.read(path)} == {f"{a}-{n}" for a in "abcd" for n in range(100)}


def test_a_full_disk_is_told() -> None:
    with pytest.raises(NoSpace, match="/dev/full: No space left on device"):
        Journal(Path("/dev/full")).write(record("t"))


def test_a_place_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match=r"file/journal\.jsonl"):
        Journal(tmp_path / "file" / "journal.jsonl").write(record("t"))
    with pytest.raises(InfraError, match="Is a directory"):
        list(journal.read(tmp_path))


def test_a_line_torn_by_a_full_disk_costs_itself_alone(tmp_path: Path) -> None:
    """A limit on the file's size makes the write short for real; then there is room again."""
    code = """
import resource, signal, sys
from pathlib import Path
from taskgate.harness.base.errors import InfraError
from taskgate.harness.base.files import Lines, read_lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
lines = Lines(path)
lines.append({"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, resource.RLIM_INFINITY))
try:
    lines.append({"n": 2})
except InfraError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
lines.append({"n": 3})
print([line["n"] for line in read_lines(path)])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "lines.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{tmp_path}/lines.jsonl: No space left on device", "[1, 3]"]
