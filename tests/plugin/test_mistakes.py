"""What a user may give that can't be: told with the option or field it stands in, and never with a traceback."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.out_files import JOURNAL, MANIFEST
from taskgate.harness.cli import main
from taskgate.harness.cli import status as status_command
from taskgate.harness.engine import discovery
from taskgate.harness.gate import merge
from taskgate.harness.gate.cache import parse_age
from taskgate.harness.plugin import hooks, options
from taskgate.harness.runner import status
from taskgate.harness.runner.results import Results
from taskgate.harness.runtime import sources
from taskgate.harness.tasks import manifest, shards, task_set
from taskgate.harness.tasks.task import Task

LONG = "a" * 300
DIGITS = "9" * 5000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text("version: 1\ntasks:\n- x\n")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "part").mkdir()
    (tmp_path / "part/verdicts.json").write_text('{"tasks": []}')
    return tmp_path


@pytest.mark.parametrize("name", [LONG, "loop", "m.yaml/below"], ids=["long", "loop", "below-a-file"])
@pytest.mark.parametrize(
    ("argv", "ends"),
    [
        (["manifest", "NAME"], 4),
        (["manifest", "m.yaml", "-o", "NAME"], 10),
        (["status", "NAME", "--docker-host=unix:///nowhere"], 4),
        (["merge", "NAME", "--images=m.yaml", "--out=merged"], 4),
        (["merge", "part", "--images=m.yaml", "--out=NAME"], 10),
        (["build", "NAME", "-o", "out.yaml"], 4),
    ],
    ids=["source", "output", "status", "part", "merged", "build"],
)
def test_commands(argv: list[str], ends: int, name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([one.replace("NAME", name) for one in argv]) == ends
    assert name[:200] in capsys.readouterr().err


def _closed(*_: Any, **__: Any) -> Any:
    raise PermissionError(errno.EACCES, "Permission denied", "/closed/task.toml")


def test_a_folder_that_is_closed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", _closed)
    with pytest.raises(UsageError, match=r"^/closed/task.toml: can't be read: Permission denied$"):
        task_set.read("part")


@pytest.mark.parametrize("name", [LONG, "loop"], ids=["long", "loop"])
@pytest.mark.parametrize(
    ("read", "field"),
    [
        (lambda path: shards.recorded(path), "--balance"),
        (lambda path: options._checks([path]), "--check-path"),
        (lambda path: sources._seen(str(path), "agent"), "runtime.agent"),
    ],
    ids=["balance", "check-path", "agent"],
)
def test_paths(read: Callable[[Path], Any], field: str, name: str, here: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(here / name)
    assert caught.value.field == field


def test_what_is_a_circle(here: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        files.write(here / "loop", b"x")
    with pytest.raises(UsageError, match="symbolic links"):
        merge.merge([here / "loop"], [])


@pytest.mark.parametrize(
    ("field", "value"),
    [("runtime", "{agent: ./loop}"), ("python", f'">={DIGITS}"'), ("python", f'">9,<{DIGITS}"')],
    ids=["agent", "python", "pythons"],
)
def test_fields(field: str, value: str, here: Path) -> None:
    (here / "m.yaml").write_text(f"version: 1\ntasks:\n- {{image: x, {field}: {value}}}\n")
    with pytest.raises(UsageError, match=rf"^m.yaml:3: .*{field}"):
        manifest.load(Path("m.yaml"))


@pytest.mark.parametrize("which", [f"1/{DIGITS}", f"{DIGITS}/2", "1/9999999", "٣/٤"], ids=range(4))
def test_shards(which: str) -> None:
    with pytest.raises(UsageError, match=r"^--shard: "):
        shards.pick({"x": Task("x", "x")}, which, {"x": 1.0})


def test_seconds_that_are_none(here: Path) -> None:
    rows = f'{{"tasks": [{{"task_id": "x", "seconds": 1{"0" * 400}}}]}}'
    (here / "part/verdicts.json").write_text(rows)
    with pytest.raises(UsageError, match=r"--balance: "):
        shards.recorded(here / "part")


def test_an_age_before_all_calendars() -> None:
    age = parse_age("999999d")
    assert age is not None and datetime.now(UTC) - age < datetime(1980, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("url", ["tcp://localhost:abc", "tcp://[::1", "tcp://localhost:99999999"], ids=range(3))
def test_addresses_of_engines(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^--docker-host: "):
        discovery.find_engine(url)
    monkeypatch.setenv("DOCKER_HOST", url)
    with pytest.raises(UsageError, match=r"^DOCKER_HOST: "):
        discovery.find_engine()


def test_a_journal_that_says_a_number(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(here)
    (here / MANIFEST).write_text("version: 1\ntasks:\n- {id: one, image: x}\n- {id: two, image: x}\n")
    lines = [{"task_id": task, "what": "failed", "reason": reason} for task, reason in (("one", 5), ("two", ["x"]))]
    (here / JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert [one.reason for one in status.read(results)] == ["5", "['x']"]
    given = SimpleNamespace(out=str(here), json=False, watch=False, docker_host="unix:///nowhere")
    assert status_command.run(given) == 1  # type: ignore[arg-type]


def _not_of_a_file(*_: Any, **__: Any) -> Any:
    raise OSError("what nobody thought of")


@pytest.mark.parametrize("raising", [_closed, _not_of_a_file])
def test_at_the_very_end(
    raising: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that can't be read is told as one; what is a mistake of ours stays visible."""
    monkeypatch.setattr("taskgate.harness.tasks.task_set.load", raising)
    monkeypatch.setattr(options, "parse", raising)
    config: Any = SimpleNamespace(option=SimpleNamespace(images="x"))
    if raising is _closed:
        assert main.main(["manifest", "x"]) == 10
        assert capsys.readouterr().err == "taskgate: /closed/task.toml: Permission denied\n"
        with pytest.raises(pytest.UsageError, match="Permission denied"):
            hooks.pytest_configure(config)
    else:
        with pytest.raises(OSError, match="nobody thought of"):
            main.main(["manifest", "x"])
        with pytest.raises(OSError, match="nobody thought of"):
            hooks.pytest_configure(config)
