"""Task sets bring their proofs along."""

from __future__ import annotations

import json
from pathlib import Path

from taskgate.harness.tasks import task_set
from taskgate.harness.tasks.proof_spec import Proof


def proof_of(source: Path) -> Proof | None:
    (task,) = task_set.load(str(source))
    return task.proof


def test_harbor(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text("[agent]\ntimeout_sec = 90.0\n[environment]\ndocker_image = 'a:1'\n")
    assert proof_of(tmp_path) is None
    (tmp_path / "solution").mkdir()
    (tmp_path / "solution/solve.sh").write_text("true\n")
    assert proof_of(tmp_path) == Proof(harness="harbor", source=str(tmp_path), timeout=90)


def test_terminal_bench(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("instruction: x\nmax_agent_timeout_sec: 90.0\n")
    (tmp_path / "docker-compose.yaml").write_text("services: {client: {image: 'a:1'}}\n")
    assert proof_of(tmp_path) is None
    (tmp_path / "run-tests.sh").write_text("true\n")
    assert proof_of(tmp_path) == Proof(harness="terminal-bench", source=str(tmp_path), timeout=90)


def test_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    common = {"base_commit": "a" * 40}
    for row, harness, name in (
        ({"instance_id": "django__django-1", "repo": "django/django"}, "swebench", "django__django-1"),
        ({"instance_id": "a__b.c1.bug", "repo": "swesmith/a__b.c1"}, "swesmith", "a__b.c1.bug"),
        ({"org": "cli", "repo": "cli", "number": 3, "base": {"sha": "b" * 40}}, "multi-swe-bench", "cli__cli-3"),
    ):
        rows.write_text(json.dumps({**common, **row}) + "\n")
        assert proof_of(rows) == Proof(harness=harness, source=str(rows), row=name)
