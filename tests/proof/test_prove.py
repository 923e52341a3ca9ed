"""Proofs on real containers: each verdict, what is kept of it, and that an interrupted proof goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests.conftest import CLONE, Gate, Run

ADDS = 'python3 -c "import calc; assert calc.add(1, 2) == 3"'
FIX = "sed -i 's/a - b/a + b/' calc.py"
COIN = "test -e solved && test $(( $(od -An -N1 -tu1 /dev/urandom) % 2 )) = 0"


@pytest.fixture(scope="module")
def calc(client: Any) -> str:
    """The demo's image: a repository in which `calc.add` subtracts."""
    agent = (CLONE / "examples/agent.py").read_bytes()
    return images.build(
        client, "taskgate-test/calc:1", f"FROM {images.base(client)}\n{images.SOUND}", {"agent.py": agent}
    )


def manifest(image: str, **proofs: Mapping[str, object]) -> str:
    """A task for each proof, on the image in which `calc.add` subtracts."""
    rows = [{"id": name, "image": image, "proof": proof} for name, proof in proofs.items()]
    return json.dumps({"version": 1, "defaults": {"repo_path": "/testbed", "pull": "never"}, "tasks": rows})


def command(solution: str, test: str) -> dict[str, object]:
    return {"solution": ["/bin/sh", "-c", solution], "test": test}


def verdicts(run: Run) -> dict[str, str]:
    return {task: record["check"] or "solvable" for task, record in run.tasks.items()}


def test_every_verdict(gate: Gate, calc: str) -> None:
    text = manifest(
        calc,
        solvable=command(FIX, ADDS),
        unsolvable=command("true", ADDS),
        trivial=command("true", "true"),
        hangs=command("true", "sleep 1000") | {"timeout": 2},
    )
    run = gate(text, "--prove=2", "--html=report.html", "--self-contained-html")
    assert "1 solvable, 1 unsolvable, 1 trivial, 1 inconclusive" in run.output
    assert not re.search("healthy|broken:|without an agent", run.output), run.output
    page = (run.folder / "report.html").read_text()
    assert "Tests by runs" in page and "tg-tile unsolvable" in page
    assert verdicts(run) == {
        "solvable": "solvable",
        "unsolvable": "unsolvable",
        "trivial": "trivial",
        "hangs": "inconclusive",
    }
    assert run.status == 10 and run.listed == {"unsolvable", "trivial"}
    assert "did not end within 2 s" in run.tasks["hangs"]["reason"]
    assert [finding["check"] for finding in run.tasks["solvable"]["findings"]] == ["gold-1", "nop-1", "gold-2", "nop-2"]
    assert (run.out / "solvable/gold-2/tests.log").exists()


def test_a_recheck_ignores_earlier_runs(gate: Gate, calc: str) -> None:
    text = manifest(calc, solvable=command(FIX, ADDS))
    gate(text, "--prove=1")
    assert gate(text, "--prove=1").tasks["solvable"]["cached"]
    again = gate(text, "--prove=1", "--recheck")
    assert verdicts(again) == {"solvable": "solvable"} and not again.tasks["solvable"]["cached"]
    assert len(again.tasks["solvable"]["findings"]) == 2


def test_a_cluster_is_refused(gate: Gate, calc: str) -> None:
    run = gate(manifest(calc, solvable=command(FIX, ADDS)), "--prove=1", "--cluster=local:1")
    assert run.status == 4 and "can't be used with --prove" in run.output


def test_a_coin_is_flaky(gate: Gate, calc: str) -> None:
    """Fifteen runs that all come out alike happen once in 16,384 times."""
    run = gate(manifest(calc, coin=command("touch solved", COIN)), "--prove=15")
    assert verdicts(run) == {"coin": "flaky"} and "gold passed" in run.tasks["coin"]["reason"]


def test_a_registry_that_does_not_answer_is_inconclusive(gate: Gate) -> None:
    text = manifest("localhost:1/none:1", lost=command("true", "true")).replace('"never"', '"missing"')
    run = gate(text, "--prove=1")
    assert verdicts(run) == {"lost": "inconclusive"} and run.status == 10 and not run.listed


def test_a_patch_and_junit(gate: Gate, calc: str, tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text(
        "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/run.py").write_text(
        "import sys; sys.path.insert(0, '.'); import calc; ok = calc.add(1, 2) == 3\n"
        "bad = '' if ok else '<failure/>'\n"
        "open('/testbed/junit.xml', 'w').write(f'<s><testcase name=\"adds\">{bad}</testcase></s>')\n"
    )
    proof = {
        "solution": "fix.patch",
        "tests": "tests",
        "test": "python3 /tests/run.py",
        "junit": "/testbed/junit.xml",
    }
    run = gate(manifest(calc, patched=proof), "--prove=2")
    assert verdicts(run) == {"patched": "solvable"}, run.output
    kept = [json.loads(line)["run"] for line in (run.out / "runs.jsonl").read_text().splitlines()]
    assert [line["tests"] for line in kept] == [{"adds": "passed"}, {"adds": "failed"}] * 2
    assert all(line["peak_memory"] > 0 for line in kept)


def test_a_patch_that_does_not_apply_is_unsolvable(gate: Gate, calc: str, tmp_path: Path) -> None:
    (tmp_path / "bad.patch").write_text("--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n")
    run = gate(manifest(calc, bad={"solution": "bad.patch", "test": ADDS}), "--prove=1")
    assert verdicts(run) == {"bad": "unsolvable"} and "ended with status 1" in run.tasks["bad"]["reason"]


def test_harbor(gate: Gate, calc: str, tmp_path: Path) -> None:
    folder = tmp_path / "fix-add"
    (folder / "solution").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "task.toml").write_text("[verifier]\ntimeout_sec = 60.0\nenv = {WANTED = '3'}\n")
    (folder / "solution/solve.sh").write_text(f"#!/bin/sh\ncd /testbed && {FIX}\n")
    (folder / "tests/test.sh").write_text(
        "#!/bin/sh\ncd /testbed\n"
        'if [ "$(python3 -c "import calc; print(calc.add(1, 2))")" = "$WANTED" ]; then echo 1; else echo 0; fi '
        ">/logs/verifier/reward.txt\n"
    )
    run = gate(manifest(calc, harbor={"harness": "harbor", "source": "fix-add"}), "--prove=2")
    assert verdicts(run) == {"harbor": "solvable"}, run.output


def test_offline(gate: Gate, calc: str) -> None:
    text = manifest(
        calc, online=command(f"{FIX}; test -d /sys/class/net/eth0", "test -d /sys/class/net/eth0 && " + ADDS)
    )
    run = gate(text, "--prove=1", "--offline")
    assert verdicts(run) == {"online": "needs network"}, run.output


@pytest.mark.slow
def test_an_interrupted_proof_goes_on(calc: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(manifest(calc, slow=command(FIX, f"sleep 1; {ADDS}")))
    argv = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml", "--prove=3"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL)
    runs = tmp_path / "results/preflight/runs.jsonl"
    for _ in range(600):
        if runs.exists() and len(runs.read_text().splitlines()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    before = len(runs.read_text().splitlines())
    assert 2 <= before < 6
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(runs.read_text().splitlines()) == 6
