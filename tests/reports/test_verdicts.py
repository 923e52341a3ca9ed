"""verdicts.json: one whole document, or the one before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import InfraError
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.reports import verdicts


def tally(ids: list[str], **judged: Verdict) -> Tally:
    made = Tally(manifest_ids=ids, scope=set(ids))
    for task_id, verdict in judged.items():
        made.add(Record(task_id, "i", "d", "linux/amd64", verdict))
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "verdicts.json"


def test_the_document_is_as_designed(path: Path) -> None:
    known = tally(["a", "b", "c", "d"], c=Verdict.BROKEN, a=Verdict.HEALTHY, b=Verdict.INFRA)
    verdicts.write(path, known)
    assert json.loads(path.read_text()) == {
        "version": 1,
        "complete": False,
        "counts": {"healthy": 1, "broken": 1, "incompatible": 0, "infra": 1},
        "unchecked": ["d"],
        "tasks": [known.records[task_id].as_dict() for task_id in "abc"],
    }


def test_it_is_complete_when_every_task_is_judged(path: Path) -> None:
    for verdict, complete in ((Verdict.BROKEN, True), (Verdict.HEALTHY, True), (Verdict.INCOMPATIBLE, False)):
        verdicts.write(path, tally(["a"], a=verdict))
        assert json.loads(path.read_text())["complete"] is complete


def joined(text: str) -> str:
    """`text` with the halves of surrogate pairs joined, as JSON does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, task_id: str, reason: str) -> None:
    path = tmp_path_factory.mktemp("v") / "verdicts.json"
    known = Tally(manifest_ids=[task_id])
    known.add(Record(task_id, reason, None, None, Verdict.INFRA, reason=reason))
    verdicts.write(path, known)
    (task,) = json.loads(path.read_bytes().decode())["tasks"]
    assert (task["task_id"], task["reason"]) == (joined(task_id), joined(reason))


def test_the_old_document_stays_when_the_disk_is_full(path: Path) -> None:
    verdicts.write(path, tally(["a"], a=Verdict.HEALTHY))
    before = path.read_bytes()
    code = """
import resource, sys
from pathlib import Path
from taskgate.harness.base.errors import InfraError
from taskgate.reports import verdicts
from taskgate.harness.gate.tally import Tally
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    verdicts.write(Path(sys.argv[1]), Tally(manifest_ids=[str(n) for n in range(5000)]))
except InfraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{path}: File too large"
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_place_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match=r"file/verdicts\.json"):
        verdicts.write(tmp_path / "file" / "verdicts.json", Tally())


WRITER = """
import sys
from pathlib import Path
from taskgate.reports import verdicts
from taskgate.harness.gate.tally import Tally
while True:
    for count in (1, 50_000):
        verdicts.write(Path(sys.argv[1]), Tally(manifest_ids=[str(n) for n in range(count)]))
        print(flush=True)
"""


def test_a_killed_writer_leaves_a_whole_document(path: Path) -> None:
    for lines in range(1, 6):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as job:
            assert job.stdout
            for _ in range(lines):
                job.stdout.readline()
            job.kill()
        assert len(json.loads(path.read_text())["unchecked"]) in (1, 50_000)
