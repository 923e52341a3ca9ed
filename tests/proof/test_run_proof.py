"""`taskgate run --proof`: only what was proven solvable, on that very image, with that solution and those tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples import images
from tests import running
from tests.running import Run, manifest


@pytest.fixture(scope="module")
def image(client: Any, sound: str) -> str:
    return running.working(client, sound)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def rows(image: str, test: str = "test -e /solved") -> str:
    proof = f"proof: {{solution: [touch, /solved], user: root, test: {test}}}"
    trivial = "proof: {solution: ['true'], test: 'true'}"
    return (
        manifest(image)
        + f"- {{id: good-1, image: '{image}', {proof}}}\n- {{id: good-2, image: '{image}', {trivial}}}\n"
        + f"- {{id: good-3, image: '{image}'}}\n"
    )


MAIN = "import sys; from taskgate.harness.cli.main import main; sys.exit(main())"


def prove(folder: Path) -> int:
    argv = [sys.executable, "-c", MAIN, "prove", "manifest.yaml", "--repeat=1", "-j1", "--skip-list=other.txt"]
    return subprocess.run(argv, cwd=folder, capture_output=True, check=False).returncode


def test_only_what_was_proven_is_run(run: Run, client: Any, image: str) -> None:
    own = images.build(client, "taskgate-test/proven:1", f"FROM {image}\nRUN true")
    refused = run(rows(own), "--proof=results/proof")
    assert refused.status == 4 and "holds no proofs" in refused.output
    (run.folder / "manifest.yaml").write_text(rows(own))
    assert prove(run.folder) == 10
    first = run(rows(own), "--proof=results/proof")
    assert first.told() == {"good-1": "done", "good-2": "SKIP (not proven)", "good-3": "SKIP (not proven)"}
    assert first.status == 10 and "proven trivial" in first.output and "has no proof" in first.output
    other = run(rows(own, "test -e /solved -a 1"), "--proof=results/proof", "--only=good-1", "--redo")
    assert other.told()["good-1"] == "SKIP (not proven)", "other tests"
    images.build(client, "taskgate-test/proven:1", f"FROM {image}\nRUN touch /new")
    rebuilt = run(rows(own), "--proof=results/proof", "--only=good-1")
    assert rebuilt.told()["good-1"] == "SKIP (not proven)", "another build of the image"
    warned = run(rows(own), "--proof=results/proof", "--proof-level=warn", "--only=good-1")
    assert warned.told()["good-1"] == "done" and "warning: good-1: not proven solvable" in warned.output
