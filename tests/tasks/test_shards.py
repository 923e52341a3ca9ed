"""Which tasks are whose: every task in one shard, by its id alone or so that all shards take equally long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgate.harness.base.errors import UsageError
from taskgate.harness.tasks import shards
from taskgate.harness.tasks.task import Task
from tests.conftest import Gate

IDS = st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=30)
SECONDS = st.dictionaries(st.text(min_size=1, max_size=6), st.floats(0, 1e6), max_size=30)


def _tasks(ids: list[str]) -> dict[str, Task]:
    return {name: Task(name, "image") for name in ids}


@given(IDS, st.integers(1, 7), SECONDS)
def test_a_partition(ids: list[str], count: int, seconds: dict[str, float]) -> None:
    for known in (None, seconds or None):
        parts = [shards.pick(_tasks(ids), f"{number}/{count}", known) for number in range(1, count + 1)]
        assert sorted(name for part in parts for name in part) == sorted(ids)
        assert all(list(part) == [name for name in ids if name in part] for part in parts), "the manifest's order"


@given(IDS.filter(bool), st.integers(1, 7))
def test_a_task_stays_where_it_is_when_others_go(ids: list[str], count: int) -> None:
    every = [set(shards.pick(_tasks(ids), f"{number + 1}/{count}")) for number in range(count)]
    fewer = [set(shards.pick(_tasks(ids[1:]), f"{number + 1}/{count}")) for number in range(count)]
    assert [part - {ids[0]} for part in every] == fewer


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40), st.integers(1, 6))
def test_shards_take_equally_long(times: list[float], count: int) -> None:
    """No shard has more to do than the fairest share and one task more."""
    seconds = {f"t{number}": taken for number, taken in enumerate(times)}
    loads = [
        sum(seconds[name] for name in shards.pick(_tasks(list(seconds)), f"{number}/{count}", seconds))
        for number in range(1, count + 1)
    ]
    assert max(loads) <= sum(times) / count + max(times) + 1e-6


def test_by_a_former_run(gate: Gate, sound: str, tmp_path: Path) -> None:
    """Of its folder, of its verdicts.json, of its journal."""
    rows = "".join(f"- {{id: t{number}, image: '{sound}'}}\n" for number in range(5))
    text = f"version: 1\ndefaults: {{pull: never, repo_path: null}}\ntasks:\n{rows}"
    former = tmp_path / "former"
    former.mkdir()
    took = [{"task_id": f"t{number}", "seconds": 9 if number == 3 else 1} for number in range(4)]
    (former / "verdicts.json").write_text(json.dumps({"tasks": took}))
    (former / "journal.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in took))
    for source in ("former", "former/verdicts.json", "former/journal.jsonl"):
        parts = []
        for number in (1, 2):
            run = gate(text, f"--shard={number}/2", f"--balance={source}", "--collect-only", "-q")
            parts.append({line.rpartition("[")[2][:-1] for line in run.output.splitlines() if "test_image[" in line})
        assert sorted(map(len, parts)) == [1, 4] and {"t3"} in parts, source


@pytest.mark.parametrize("text", ["", "[]", '{"tasks": []}', '{"tasks": [{"task_id": 1}]}', '{"tasks": 1}', "\0"])
def test_what_tells_no_durations(text: str, tmp_path: Path) -> None:
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(UsageError, match="--balance"):
        shards.recorded(tmp_path)
    with pytest.raises(UsageError, match="--balance"):
        shards.recorded(tmp_path / "missing")
