"""The packaged suite and the node ids of its cases."""

from __future__ import annotations

import os
from pathlib import Path

SUITE = Path(__file__).parent / "suite" / "test_taskgate.py"
CASE = "test_taskgate.py::test_image["


def id_of_case(nodeid: str) -> str | None:
    """The id of the task whose case it is; None for any other test."""
    before, separator, rest = nodeid.partition(CASE)
    return rest[:-1] if separator and not before.count("[") else None


def names_suite(argument: str, base: Path) -> bool:
    """Does an argument of the command line name the packaged suite, or cases of it?"""
    path = base / argument.partition("::")[0]
    try:
        return path.resolve() == SUITE.resolve()
    except (OSError, RuntimeError):
        return False


def suite_path() -> str:
    """The suite as it is shown: relative to the current directory if it lies below it."""
    return os.path.relpath(SUITE) if SUITE.is_relative_to(Path.cwd()) else str(SUITE)
