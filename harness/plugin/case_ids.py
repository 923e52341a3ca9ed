"""The packaged suite and the node ids of its cases."""

from __future__ import annotations

import os
from pathlib import Path

SUITE = Path(__file__).parent / "suite" / "test_taskgate.py"
CASE = "test_taskgate.py::test_image["


def id_of_case(nodeid: str) -> str | None:
    """The id of the task whose case it is; None for any other test."""
    before, found, after = nodeid.partition(CASE)
    return after[:-1] if found and not before.count("[") else None


def suite_path() -> str:
    """The suite as it is shown: relative to the current directory where it lies below it."""
    return os.path.relpath(SUITE) if SUITE.is_relative_to(Path.cwd()) else str(SUITE)
