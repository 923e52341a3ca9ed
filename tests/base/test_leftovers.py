"""A process that is killed in the middle of its files: the next one removes them, and nothing that is not theirs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskgate.harness.base import files
from taskgate.harness.base.out_files import RESULT
from taskgate.harness.engine import archive_api
from taskgate.harness.runner.results import Results
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.sandbox import archive, transfer

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def _killed(*lines: str) -> None:
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("what", ["temp_file", "temp_dir"])
def test_a_store(what: str, tmp_path: Path) -> None:
    filled = "where.write_bytes(b'x')" if what == "temp_file" else "(where / 'site').mkdir()"
    _killed(
        "from pathlib import Path",
        "from taskgate.harness.runtime.bundle import Store",
        f"with Store(Path({str(tmp_path)!r})).{what}() as where:",
        f"    {filled}",
        f"    {KILLED}",
    )
    assert len(_names(tmp_path)) == 1
    store = Store(tmp_path)
    with getattr(store, what)() as mine:
        # The dead one's is gone; one that lives stays.
        assert _names(tmp_path) == [mine.name]
        with getattr(store, what)() as other:
            assert _names(tmp_path) == sorted([mine.name, other.name])
    assert _names(tmp_path) == []


def test_a_temporary_file_that_was_moved(tmp_path: Path) -> None:
    with files.temp_file(tmp_path, ".making-") as made:
        made.write_bytes(b"x")
        made.replace(tmp_path / "kept")
    mask = os.umask(0o022)
    os.umask(mask)
    assert _names(tmp_path) == ["kept"] and (tmp_path / "kept").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_temporary_folder_removes_no_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / ".taskgate-copy-settings").mkdir()
    with files.temp_dir(tmp_path, ".taskgate-copy-"):
        pass
    assert _names(tmp_path) == [".taskgate-copy-settings"]


def _attempt(results: Results, task: str, text: str) -> Path:
    fresh = results.fresh(task)
    (fresh / RESULT).write_text(json.dumps({"task_id": task, "said": text}))
    return fresh


@pytest.mark.parametrize("task", ["one", "a/b.c", "x.abcdefgh.old"])
def test_results_between_two_renames(task: str, tmp_path: Path) -> None:
    """The new ones were whole before the old ones went: they take their place."""
    results = Results(tmp_path)
    with results.held():
        results.settle(task, _attempt(results, task, "old"))
    _killed(
        "from pathlib import Path",
        "from taskgate.harness.runner.results import Results",
        f"results = Results(Path({str(tmp_path)!r}))",
        "rename = Path.rename",
        "def killed(path, target):",
        "    rename(path, target)",
        f"    {KILLED}",
        "with results.held():",
        f"    fresh = results.fresh({task!r})",
        f"    (fresh / 'result.json').write_text('{json.dumps({'task_id': task, 'said': 'new'})}')",
        "    Path.rename = killed",
        f"    results.settle({task!r}, fresh)",
    )
    assert results.result(task) is None
    with results.held():
        assert results.result(task) == {"task_id": task, "said": "new"}
    # Of new ones that are gone, the old ones.
    with results.held():
        fresh = _attempt(results, task, "newer")
        results.folder(task).rename(fresh.with_name(f"{fresh.name}.old"))
        (fresh / RESULT).unlink()
        fresh.rmdir()
        results._finish()
        assert results.result(task) == {"task_id": task, "said": "new"}
    assert ".running" not in _names(tmp_path)


def test_a_copy_out_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had arrived goes with the next copy to that folder."""
    _killed(
        "from types import SimpleNamespace",
        "from contextlib import nullcontext",
        "from pathlib import Path",
        "from taskgate.harness.engine import archive_api",
        "from taskgate.harness.sandbox import archive, transfer",
        "archive_api.tar = lambda *_: nullcontext()",
        "def killed(tar, fresh, **_):",
        "    fresh.write_bytes(b'x')",
        f"    {KILLED}",
        "archive.unpack = killed",
        "container = SimpleNamespace(client=SimpleNamespace(api=None), id='x')",
        f"transfer.copy_from_container(container, '/x', Path({str(tmp_path)!r}) / 'here')",
    )
    assert len(_names(tmp_path)) == 1
    monkeypatch.setattr(archive_api, "tar", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(archive, "unpack", lambda _, fresh, **__: fresh.write_bytes(b"y"))
    container = SimpleNamespace(client=SimpleNamespace(api=None), id="x")
    transfer.copy_from_container(container, "/x", tmp_path / "here", verbose=False)
    assert _names(tmp_path) == ["here"]
