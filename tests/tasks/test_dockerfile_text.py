"""Where an image starts, as its Dockerfile tells it; and the variables of compose files."""

from __future__ import annotations

import pytest

from taskgate.harness.tasks.importers.dockerfile_text import workdir
from taskgate.harness.tasks.importers.interpolation import interpolated


@pytest.mark.parametrize(
    ("text", "target", "path"),
    [
        ("FROM x\nWORKDIR /app\n", None, "/app"),
        ("FROM x\nWORKDIR /app\nWORKDIR src\n", None, "/app/src"),
        ("FROM x\nWORKDIR /app\nWORKDIR ../lib/\n", None, "/lib"),
        ("FROM x\nWORKDIR src\n", None, None),
        ("FROM x AS build\nWORKDIR /build\nFROM y\nRUN true\n", None, None),
        ("FROM x AS build\nWORKDIR /build\nFROM build\nWORKDIR deep\n", None, "/build/deep"),
        ("FROM x AS build\nWORKDIR /build\nFROM y\nWORKDIR /late\n", "build", "/build"),
        ("FROM x\nWORKDIR /build\nFROM y\nWORKDIR /late\n", "0", "/build"),
        ("FROM --platform=linux/amd64 x AS a\nWORKDIR /a\n", "a", "/a"),
        ("FROM x\nARG D=/d\nWORKDIR $D\nWORKDIR sub\n", None, None),
        ('FROM x\n  workdir \\\n    "/with space"\n# WORKDIR /comment\n', None, "/with space"),
        ("", None, None),
    ],
)
def test_workdir(text: str, target: str | None, path: str | None) -> None:
    assert workdir(text, target) == path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$A-${A}", "a-a"),
        ("$$A costs 5$", "$A costs 5$"),
        ("${NONE:-d}${EMPTY:-e}${EMPTY-f}", "de"),
        ("${NONE:-${A}}", "a"),
        ("${A:+x}${EMPTY:+y}${EMPTY+z}${NONE+n}", "xz"),
        ("${NONE}", None),
        ("${NONE:?must be set}", None),
        ("${A?}", "a"),
    ],
)
def test_variables(text: str, value: str | None) -> None:
    assert interpolated(text, {"A": "a", "EMPTY": ""}) == value
