"""Trajectories and predictions of an agent that means harm: not done, in bounded memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY
from taskgate.harness.runner.completion import Unfinished, inspect

MIB = 1 << 20


def _write(folder: Path, steps: str) -> None:
    (folder / TRAJECTORY).write_text(f'{{"task_id": "a", "steps": [{steps}]}}')
    (folder / PREDICTION).write_text(json.dumps({"task_id": "a", "patch": "x"}))


def test_more_values_than_can_be_meant(tmp_path: Path) -> None:
    """64 MiB of them would be 1.6 GB."""
    _write(tmp_path, "{}," * (64 * MIB // 3) + "{}")
    inspecting = f"from pathlib import Path\nfrom {inspect.__module__} import inspect\ninspect(Path('.'), 'a')"
    limit = (1 << 30, 1 << 30)
    done = subprocess.run(
        [sys.executable, "-c", inspecting], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )  # fmt: skip
    assert "Unfinished: trajectory.json is no JSON, or is cut short: it holds more than 3,000,000 values" in done.stderr


@pytest.mark.parametrize("text", [',[{"\\', "\\\\,", '\\",{'], ids=range(3))
def test_a_long_text_is_one_value(text: str, tmp_path: Path) -> None:
    _write(tmp_path, json.dumps(text * 4_000_000))
    inspect(tmp_path, "a")


def test_a_text_without_an_end(tmp_path: Path) -> None:
    """Each byte is looked at once, whatever looks like a text's beginning."""
    _write(tmp_path, '"' + '\\",' * 4_000_000)
    (tmp_path / TRAJECTORY).write_text((tmp_path / TRAJECTORY).read_text().removesuffix("]}"))
    with pytest.raises(Unfinished, match="Unterminated string"):
        inspect(tmp_path, "a")
