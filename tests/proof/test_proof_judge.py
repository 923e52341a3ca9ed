"""A proof where engines come and go, and where a user interrupts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.base.errors import EngineUnavailable
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.proof.proof_judge import ProofJudge, ProofSettings
from taskgate.harness.proof.trial import Trial
from taskgate.harness.tasks.proof_spec import Proof
from taskgate.harness.tasks.task import Task


@pytest.fixture(scope="module")
def base(client: Any) -> str:
    return images.base(client)


def task(image: str) -> Task:
    proof = Proof(solution=("touch", "/solved"), test=("test", "-e", "/solved"), user="root", timeout=60)
    return Task(id="one", image=image, repo_path=None, workdir="/", pull="never", proof=proof)


def test_another_engine_goes_on(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is gone in the middle of the second run: what was completed is kept, and a new connection goes on."""
    connections, runs = [], []

    def connect() -> Engine:
        connections.append(1)
        return Engine(None)

    whole = Trial.run

    def run(self: Trial, *args: Any) -> Any:
        runs.append(args)
        if len(runs) == 2:
            self.engine.close()
            raise EngineUnavailable("gone")
        return whole(self, *args)

    monkeypatch.setattr(Trial, "run", run)
    judge = ProofJudge(connect, tmp_path, ProofSettings(repeat=1), session=ownership.new_session())
    record = judge.judge(task(base))
    judge.close()
    assert record.check is None, record.reason
    assert [finding.check for finding in record.findings] == ["gold-1", "nop-1"]
    assert len(connections) == 2 and len(runs) == 3
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["gold-1", "nop-1"]


def test_no_engine_is_inconclusive(tmp_path: Path) -> None:
    def connect() -> Engine:
        raise EngineUnavailable("no engine answers")

    judge = ProofJudge(connect, tmp_path, ProofSettings(spare=1), session=ownership.new_session())
    record = judge.judge(task("x:1"))
    assert (record.verdict, record.check) == ("infra", "inconclusive") and "no engine answers" in (record.reason or "")


def test_an_interrupted_proof_has_no_verdict(base: str, tmp_path: Path) -> None:
    rows = [
        {
            "id": "slow",
            "image": base,
            "repo_path": None,
            "workdir": "/",
            "proof": {"solution": ["true"], "test": "sleep 60"},
        }
    ]
    (tmp_path / "m.yaml").write_text(json.dumps({"version": 1, "defaults": {"pull": "never"}, "tasks": rows}))
    argv = [sys.executable, "-m", "pytest", "--images=m.yaml", "--prove=1", "--out=out"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if any(tmp_path.glob("out/slow/gold-1.*/tests.log")):
            break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert not (tmp_path / "out/runs.jsonl").exists() and "1 not judged" in output
    assert not list(tmp_path.glob("out/slow/*"))
    assert not (tmp_path / "config/known_broken_images.txt").exists()
