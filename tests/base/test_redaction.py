"""Passwords in URLs: in nothing that is shown or written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskgate.harness.base.redaction import redacted
from taskgate.harness.gate.skip_list import open_skip_list
from tests import postgres, running
from tests.conftest import Gate


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("config/known.txt", "config/known.txt"),
        ("sqlite:////srv/me@home/skip.db", "sqlite:////srv/me@home/skip.db"),
        ("postgresql://gate@db/x", "postgresql://gate@db/x"),
        ("postgresql://gate:hunter2@db/x", "postgresql://gate:***@db/x"),
        ("postgresql://gate:hunt/er@2?@db/x", "postgresql://gate:***@db/x"),
        ("postgresql://db/x?user=u&password=hunter2&sslmode=no", "postgresql://db/x?user=u&password=***&sslmode=no"),
        ("postgresql://db/x?sslPassword=hunter2", "postgresql://db/x?sslPassword=***"),
        ("https://me:hunter2@host/v1", "https://***@host/v1"),
        ("https://hunter2@host/v1", "https://***@host/v1"),
        ("https://host/v1?api_key=hunter2", "https://host/v1?api_key=***"),
        ("tcp://me:hunter2@host:2375", "tcp://***@host:2375"),
        ("ssh://me@host", "ssh://me@host"),
        ("DATABASE=postgresql://gate:hunter2@db/x", "DATABASE=postgresql://gate:***@db/x"),
        ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database's, that is reached with a password: its server takes any."""
    with postgres.server() as made:
        yield sa.make_url(made).set(password="hunter2").render_as_string(hide_password=False)


def _told(folder: Path) -> str:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("cache.jsonl", "m.yaml")]
    return "\n".join(path.read_text(errors="replace") for path in paths)


def test_a_databases_password_is_in_no_report(gate: Gate, url: str, sound: str, tmp_path: Path) -> None:
    skips = open_skip_list(url)
    assert skips.read() == {}
    skips.update([], ["none"])
    made = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with made.begin() as connection:
        connection.execute(sa.text("insert into taskgate_skip_list (task_id) values ('listed')"))
    made.dispose()
    text = f"version: 1\ntasks:\n- {{id: listed, image: '{sound}'}}\n"
    args = [f"--skip-list={url}", "--html=r.html", "--self-contained-html", "--junitxml=j.xml"]
    run = gate(text, *args, env={"GITHUB_STEP_SUMMARY": str(tmp_path / "step.md")})
    assert run.status == 1 and run.tasks["listed"]["reason"].startswith("listed by hand in postgresql://"), run.output
    assert "listed by hand" in (tmp_path / "step.md").read_text()
    assert "hunter2" not in run.output + _told(tmp_path)
    wrong = gate(text, f"--skip-list={url.replace('/postgres?', '/nowhere?')}")
    assert wrong.status == 4 and "hunter2" not in wrong.output, wrong.output


def test_what_a_run_writes_down_of_its_options(client: Any, sound: str, url: str, tmp_path: Path) -> None:
    run = running.Run(tmp_path)
    text = running.manifest(running.working(client, sound), "listed")
    ran = run(
        text, f"--skip-list={url}", "--endpoint=https://me:hunter2@host/v1", "--env=DB=postgresql://a:hunter2@b/c"
    )
    assert "hunter2" not in ran.output + _told(tmp_path)
    told = json.loads((run.out / "run.json").read_text())["options"]
    assert told["endpoint"] == "https://***@host/v1" and told["env"] == ["DB=postgresql://a:***@b/c"]
    wrong = run(None, "--endpoint=https://me:hunter2@host/v1?x")
    assert wrong.status == 4 and "'https://***@host/v1?x' is no URL" in wrong.output, wrong.output
