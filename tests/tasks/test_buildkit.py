"""What needs BuildKit, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks import buildkit, builds
from taskgate.harness.tasks.importers.importer import Build, Row


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("FROM x\nRUN echo a && cat <b\n", None),
        ("FROM x\nRUN <<EOF\necho a\nEOF\n", "a heredoc"),
        ('FROM x\nCOPY <<"EOF" /a\nb\nEOF\n', "a heredoc"),
        ("FROM x\nRUN --mount=type=cache,target=/c true\n", "RUN --mount"),
        ("FROM x\nRUN \\\n  --mount=type=ssh true\n", "RUN --mount"),
        ("FROM x\nCOPY --chmod=755 a b\n", "COPY --link"),
        ("FROM x\nCOPY --from=y --chown=a a b\n", None),
        ("FROM x\n# RUN --mount=type=cache true\n", None),
    ],
)
def test_what_needs_it(tmp_path: Path, text: str, needed: str | None) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert buildkit.needed_by(Build(tmp_path)) == needed


def test_the_command(tmp_path: Path) -> None:
    build = Build(tmp_path, "sub/Dockerfile", {"A": "b c"}, "stage", "linux/arm64")
    assert buildkit.command("unix:///x.sock", "a:1", build) == [
        *("docker", "--host", "unix:///x.sock", "buildx", "build", "--load", "--progress=plain", "--tag=a:1"),
        *("--file=sub/Dockerfile", "--platform=linux/arm64", "--target=stage", "--build-arg=A=b c", "-"),
    ]


def test_a_tag_is_of_a_platform(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    tags = {name: builds.tag_of("t", Build(tmp_path, platform=name)) for name in (None, "linux/amd64", "linux/arm64")}
    assert tags[None] == tags["linux/amd64"] != tags["linux/arm64"]


@pytest.mark.skipif(buildkit.available(), reason="docker has buildx here")
def test_without_it_the_reason_is_clear(tmp_path: Path, client: Any) -> None:
    """The classic builder would run the heredoc's first line alone, and call that a success."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nRUN <<EOF\necho a\nEOF\n")
    row = Row({"id": "t"}, "x", build=Build(tmp_path / "context"))
    ((key, built),) = builds.Builder(Engine, tmp_path / "out").run({(0, None): row}, jobs=1)
    assert key == (0, None) and built.outcome == "infra"
    assert built.reason == "the Dockerfile has a heredoc, which needs BuildKit: install docker's buildx plugin"
