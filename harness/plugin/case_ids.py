"""The packaged suite and the node ids of its cases."""

from __future__ import annotations

from pathlib import Path

SUITE = Path(__file__).parent / "suite" / "test_taskgate.py"
CASE = "test_taskgate.py::test_image["


def id_of_case(nodeid: str) -> str | None:
    """The id of the task whose case it is; None for any other test."""
    before, separator, rest = nodeid.partition(CASE)
    return rest[:-1] if separator and not before.count("[") else None


def case_argument(task_id: str) -> str:
    """What names a task's case on pytest's command line."""
    return f"{CASE}{task_id}]"


def full_path(argument: str) -> str:
    """An argument that names the suite by the short form of node ids, with the suite's path."""
    name, separator, case = argument.partition("::")
    # pytest may show them below a folder, relative to the current directory.
    short = Path(name).name == SUITE.name and not Path(name).exists()
    return f"{SUITE}{separator}{case}" if short else argument


def names_suite(argument: str, base: Path) -> bool:
    """Does an argument of the command line name the packaged suite, or cases of it?"""
    path = base / argument.partition("::")[0]
    try:
        return path.resolve() == SUITE.resolve()
    except (OSError, RuntimeError):
        return False
