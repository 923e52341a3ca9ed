"""The labelled corpus in every mode in which images are judged: the same verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskgate.harness.gate.verdict import Record
from taskgate.harness.tasks import manifest_dump
from tests.checks.test_corpus import mistake, task_of
from tests.conftest import Gate, Run
from tests.corpus import CASES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(client: Any, sound: str) -> str:
    return manifest_dump.dump([task_of(case, client, sound) for case in CASES])


def _mistakes(*runs: Run | dict[str, Any]) -> dict[str, str]:
    """What is wrong with the records of these runs together, by case."""
    told = {name: task for run in runs for name, task in (run.tasks if isinstance(run, Run) else run).items()}
    assert sorted(told) == sorted(case.name for case in CASES)
    found = {case.name: mistake(case, Record.from_dict(told[case.name])) for case in CASES}
    return {name: said for name, said in found.items() if said}


def test_workers_that_steal_from_each_other_and_a_second_run(gate: Gate, manifest: str) -> None:
    """The second one finds broken and sound ones in the cache, and asks the skip list."""
    first = gate(manifest, "-n", "4", "--dist=worksteal", "--disk-budget=1t")
    assert _mistakes(first) == {}
    second = gate(manifest, "-n", "2")
    assert _mistakes(second) == {}
    assert sum(task["cached"] for task in second.tasks.values()) > len(CASES) // 2
    replayed = gate(manifest, "--replay=results/preflight")
    assert replayed.status == first.status == second.status


def test_shards(gate: Gate, manifest: str) -> None:
    """Two of them, balanced by what they took before."""
    former = gate(manifest, "-n", "2", "--checks=image_exists").tasks
    parts = []
    for number in (1, 2):
        run = gate(manifest, f"--shard={number}/2", "--balance=results/preflight/journal.jsonl", f"--out=part-{number}")
        document = json.loads((run.folder / f"part-{number}/verdicts.json").read_text())
        parts.append({task["task_id"]: task for task in document["tasks"]})
    assert not set(parts[0]) & set(parts[1]) and len(former) == len(CASES)
    assert _mistakes(*parts) == {}
