"""`--cluster`: the same verdicts, files and exit status as without, whatever happens to the nodes."""

from __future__ import annotations

import pytest

from tests.conftest import Gate

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"


@pytest.fixture
def manifest(sound: str) -> str:
    return f"{HEAD}- {{id: one, image: '{sound}'}}\n- {{id: two, image: '{sound}', require: {{commands: [no-such]}}}}\n"


def test_the_verdicts_of_a_cluster(gate: Gate, manifest: str) -> None:
    run = gate(manifest, "--cluster=local:2")
    assert run.status == 1, run.output
    assert {task: record["verdict"] for task, record in run.tasks.items()} == {"one": "healthy", "two": "broken"}
    assert run.listed == {"two"} and "1 failed, 1 passed" in run.output
    again = gate(manifest, "--cluster=local:2")
    assert again.status == 1 and all(record["cached"] for record in again.tasks.values())


def test_options_of_pytest(gate: Gate, manifest: str) -> None:
    run = gate(manifest, "--cluster=local:1", "-k", "one", "--junitxml=junit.xml")
    assert run.status == 0 and "1 passed" in run.output and (run.folder / "junit.xml").exists()
    assert gate(manifest, "--cluster=local:1", "-n", "2").status == 4
