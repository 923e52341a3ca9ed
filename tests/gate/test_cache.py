"""The verdict cache: it gives back what holds, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import NoSpace, UsageError
from taskgate.harness.gate.cache import VerdictCache, parse_age
from taskgate.harness.gate.verdict import Evidence, Finding, Outcome, Record, Verdict

NOW = datetime.now(UTC).isoformat(timespec="milliseconds")


def record(task_id: str = "t", **more: Any) -> Record:
    given: dict[str, Any] = {
        "image": "i:1",
        "digest": "sha256:1",
        "platform": "linux/amd64",
        "verdict": Verdict.BROKEN,
        "check": "git_repo",
        "reason": "half \ud800 a\nline 名",
        "hint": "mend it",
        "findings": [Finding("shell", Outcome.PASS, None, 0.5), Finding("git_repo", Outcome.FAIL, "no", 1.0)],
        "seconds": 1.5,
        "started": NOW,
        "evidence": Evidence("git status", "timed out after 30 s", "\0\x1b[0m"),
        "fingerprint": "f",
    }
    return Record(task_id, **{**given, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "cache.jsonl"


def filled(path: Path, *records: Record) -> VerdictCache:
    cache = VerdictCache(path, timedelta(days=1))
    for each in records:
        cache.put(each)
    return VerdictCache(path, timedelta(days=1))


def test_a_verdict_comes_back_marked_as_cached(path: Path) -> None:
    found = filled(path, record()).get("t", "sha256:1", "f")
    assert found == record(cached=True)


def test_what_was_put_is_known_at_once_and_outlives_the_next(path: Path) -> None:
    cache = VerdictCache(path, None)
    assert cache.get("t", "sha256:1", "f") is None
    cache.put(record())
    assert cache.get("t", "sha256:1", "f")
    cache.put(record(digest="sha256:2"))
    assert cache.get("t", "sha256:1", "f") is None and cache.get("t", "sha256:2", "f")


@pytest.mark.parametrize("asked", [("u", "sha256:1", "f"), ("t", "sha256:2", "f"), ("t", "sha256:1", "g")])
def test_another_task_image_or_setting_is_unknown(path: Path, asked: tuple[str, str, str]) -> None:
    assert filled(path, record()).get(*asked) is None


@pytest.mark.parametrize(
    "passed_over",
    [
        {"verdict": Verdict.INFRA},
        {"verdict": Verdict.INCOMPATIBLE},
        {"digest": None},
        {"fingerprint": None},
        {"cached": True},
    ],
)
def test_what_says_nothing_of_an_image_is_not_kept(path: Path, passed_over: dict[str, Any]) -> None:
    filled(path, record(**passed_over))
    assert not path.exists()


def test_an_old_verdict_holds_no_longer(path: Path) -> None:
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    assert filled(path, record(started=old)).get("t", "sha256:1", "f") is None
    assert VerdictCache(path, None).get("t", "sha256:1", "f")


@pytest.mark.parametrize(
    "damage",
    [
        {"task_id": ["t"]},
        {"started": "2026-01-01T00:00:00"},
        {"started": "soon"},
        {"verdict": "infra"},
        {"verdict": "fine"},
        {"findings": None},
        {"findings": [{}]},
    ],
)
def test_damaged_lines_are_passed_over(path: Path, damage: dict[str, Any]) -> None:
    filled(path, record("good"))
    bad = {**record().as_dict(), **damage}
    with path.open("ab") as file:
        file.write(
            b"\xff\n[]\n{}\n" + json.dumps({"fingerprint": "f", "record": bad, "evidence": None}).encode() + b"\n"
        )
    cache = filled(path, record("later"))
    assert cache.get("good", "sha256:1", "f") and cache.get("later", "sha256:1", "f")
    assert cache.get("t", "sha256:1", "f") is None


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(1, 200))
def test_a_torn_last_line_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("c") / "cache.jsonl"
    filled(path, record("one"), record("two"))
    path.write_bytes(path.read_bytes()[:-cut])
    cache = filled(path, record("three"))
    assert cache.get("one", "sha256:1", "f") and cache.get("three", "sha256:1", "f")
    # Without its line feed alone, a line is whole.
    assert (cache.get("two", "sha256:1", "f") is not None) == (cut == 1)


def test_compacting_keeps_the_newest_of_each(path: Path) -> None:
    filled(path, record("a"), record("b"), record("a", digest="sha256:2"))
    with path.open("ab") as file:
        file.write(b"torn {")
    cache = VerdictCache(path, None)
    cache.compact()
    assert len(path.read_text().splitlines()) == 4, "there is too little to win"
    for _ in range(3):
        cache.put(record("a", digest="sha256:2"))
    cache.compact()
    assert len(path.read_text().splitlines()) == 2
    cache.put(record("c"))
    again = VerdictCache(path, None)
    assert again.get("a", "sha256:2", "f") == record("a", digest="sha256:2", cached=True)
    assert again.get("b", "sha256:1", "f") and again.get("c", "sha256:1", "f")
    before = path.stat().st_ino
    again.compact()
    assert path.stat().st_ino == before


def test_compacting_nothing_makes_nothing(path: Path) -> None:
    VerdictCache(path, None).compact()
    assert not path.exists()


def test_a_full_disk_is_told() -> None:
    with pytest.raises(NoSpace, match="/dev/full: No space left on device"):
        VerdictCache(Path("/dev/full"), None).put(record())


WRITER = """
import sys
from pathlib import Path
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.verdict import Record, Verdict
cache, n = VerdictCache(Path(sys.argv[1]), None), 0
while True:
    cache.put(Record(f"t{n}", "i", "d", None, Verdict.HEALTHY, started=sys.argv[2], fingerprint="f", hint="x" * 9000))
    print(n, flush=True)
    n += 1
"""


def test_a_killed_writer_loses_nothing_that_it_wrote(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, path, NOW], stdout=subprocess.PIPE) as job:
        assert job.stdout
        for _ in range(50):
            job.stdout.readline()
        job.kill()
    cache = filled(path, record("next"))
    assert all(cache.get(f"t{n}", "d", "f") for n in range(50)) and cache.get("next", "sha256:1", "f")


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("0s", timedelta()),
        ("never", None),
    ],
)
def test_ages_are_read(text: str, age: timedelta | None) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 d", "1w", "٣d", "9999999d", "1d\n", "Never"])
def test_what_is_no_age_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="--max-age"):
        parse_age(text)
