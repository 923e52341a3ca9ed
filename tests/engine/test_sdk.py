"""The seam round the docker SDK, read from the source: who calls its private methods, and who its low-level client."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from docker import APIClient

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("harness", "checks", "reports") for path in (ROOT / folder).rglob("*.py"))
# Works on containers that its callers bring, which are the SDK's.
LIBRARY = tuple(
    f"harness/sandbox/{name}.py"
    for name in ("execute", "lifecycle", "transfer", "container_files", "_owners", "_rename", "_termination")
)
PRIVATE = {name for name in dir(APIClient) if name.startswith("_") and not name.startswith("__")} | {"_response"}


def _private_calls(source: str) -> set[str]:
    """The SDK's private names that are taken from an object other than `self`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in PRIVATE
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        and not (isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super")
    } | {
        node.args[1].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "getattr"
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in PRIVATE
    }


def _low_level(source: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "api" for node in ast.walk(ast.parse(source)))


def _names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_private_methods_are_called_in_one_module() -> None:
    callers = _names([path for path in SOURCES if _private_calls(path.read_text())])
    assert callers == ["harness/engine/sdk.py"]


def test_the_low_level_client_is_used_by_the_engine_layer_alone() -> None:
    users = _names([path for path in SOURCES if _low_level(path.read_text())])
    assert users, "nothing was found at all"
    assert [name for name in users if not name.startswith(("harness/engine/", *LIBRARY))] == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("api._url('/x')", {"_url"}),
        ("client.api._get(client.api._url('/x'))", {"_get", "_url"}),
        ("getattr(stream, '_response', None)", {"_response"}),
        ("self._get(1)", set()),
        ("api.get(1)", set()),
    ],
)
def test_a_private_call_is_noticed(source: str, names: set[str]) -> None:
    assert _private_calls(source) == names
