"""What a run, or many put together, adds to the skip list and takes off it, whatever others do to it meanwhile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from taskgate.checks import _registry as registry
from taskgate.checks._registry import ORDER
from taskgate.harness.gate import skip_list_sync
from taskgate.harness.gate.skip_entry import Clearance, Entry
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Outcome, Record, Verdict, finding
from tests import running
from tests.conftest import Gate
from tests.running import TASKGATE

OLD, NEW, NOW = "2026-01-01T00:00:00.000+00:00", "2026-03-01T00:00:00.000+00:00", "2026-02-01T00:00:00.000+00:00"


@pytest.fixture(params=["file", "sqlite"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/skip.db" if request.param == "sqlite" else str(tmp_path / "skip.txt")


def entry(task_id: str, check: str | None = "git_repo", digest: str = "sha256:1", last: str = OLD) -> Entry:
    return Entry(task_id, check, "objects missing", "i:1", digest, "f", OLD, last, "r")


def healthy(task_id: str, checks: list[str] = ORDER, digest: str = "sha256:1") -> Record:
    record = Record(task_id, "i:1", digest, "linux/amd64", Verdict.HEALTHY, started=NOW)
    record.findings = [finding(name, Outcome.PASS, None, 0.0) for name in checks]
    return record


def merged(folder: Path, where: str, *records: Record) -> None:
    """A part with these records, put together with nothing else; the list brought up to date by it."""
    (folder / "part").mkdir()
    document = {"version": 1, "tasks": [record.as_dict() for record in records]}
    (folder / "part/verdicts.json").write_text(json.dumps(document))
    rows = "".join(f"- {{id: {record.task_id}, image: '{record.image}'}}\n" for record in records)
    (folder / "m.yaml").write_text(f"version: 1\ntasks:\n{rows}")
    subprocess.run(
        [*TASKGATE, "merge", "part", "--images=m.yaml", "--out=all", f"--skip-list={where}"],
        cwd=folder, check=False, capture_output=True, timeout=100,
    )  # fmt: skip


def test_all_checks_of_ours_have_their_place_in_the_order() -> None:
    packaged = {name for name, check in registry._declared.items() if check.body.__module__.startswith("taskgate.")}
    assert packaged <= set(ORDER)
    assert set(ORDER) <= {check.name for check in registry.load()}


def test_a_few_checks_clear_nothing(tmp_path: Path, where: str) -> None:
    """Not on the machine where the shards are put together, either."""
    ids = ["git", "injected", "unknown", "own"]
    kept = [entry("git"), entry("injected", "injection"), entry("unknown", None), entry("own", "has_ps")]
    open_skip_list(where).update(kept, [])
    merged(tmp_path, where, *(healthy(task_id, ["image_exists"]) for task_id in ids))
    assert set(open_skip_list(where).read()) == set(ids)


def test_all_checks_clear_what_they_have_looked_at(tmp_path: Path, where: str) -> None:
    ids = ["git", "injected", "unknown", "own", "newer", "rebuilt"]
    entries = [entry("git"), entry("injected", "injection"), entry("unknown", None), entry("own", "has_ps")]
    # Of another image, and found out after this verdict was.
    entries += [entry("newer", digest="sha256:2", last=NEW), entry("rebuilt", digest="sha256:0")]
    open_skip_list(where).update(entries, [])
    merged(tmp_path, where, *(healthy(task_id) for task_id in ids))
    assert set(open_skip_list(where).read()) == {"own", "newer"}


def test_what_was_read_off_the_list_is_not_put_back_by_a_merge(tmp_path: Path, where: str) -> None:
    record = Record("a", "i:1", "sha256:1", "linux/amd64", Verdict.BROKEN, check="tmp", reason="no /tmp", started=NOW)
    record.cached = True
    merged(tmp_path, where, record)
    assert open_skip_list(where).read() == {}


def test_only_the_entry_that_is_outdated_goes(where: str) -> None:
    """The look and the deed are one: what another job writes in between stays."""
    skips = open_skip_list(where)
    seen, other = entry("x"), entry("x", digest="sha256:2", last=NEW)
    for now, sound, goes in (
        (seen, Clearance("x", "sha256:3", frozenset(ORDER), seen), True),
        (other, Clearance("x", "sha256:3", frozenset(ORDER), seen), False),
        (other, Clearance("x", "sha256:2", frozenset(ORDER), seen), True),
        (other, Clearance("x", "sha256:2", frozenset(ORDER)), True),
        (other, Clearance("x", None, frozenset(ORDER)), False),
        (seen, Clearance("x", "sha256:1", frozenset(["tmp"]), seen), False),
        (entry("x", None), Clearance("x", "sha256:1", frozenset(ORDER)), True),
        (entry("x", "injection"), Clearance("x", "sha256:1", frozenset(ORDER)), True),
        (Entry("x", reason="a half"), Clearance("x", None, frozenset(), Entry("x", reason="a half")), True),
        (Entry("x", reason="a half"), Clearance("x", None, frozenset(), Entry("x", reason="another")), False),
    ):
        skips.update([], ["x"])
        skips.update([now], [])
        skips.update([], [sound])
        assert ("x" not in skips.read()) == goes, (now, sound)


def test_only_what_is_news_is_added(where: str) -> None:
    skips = open_skip_list(where)
    tally = Tally()
    for task_id in ("fresh", "listed", "cached"):
        record = Record(task_id, "i:1", "sha256:1", None, Verdict.BROKEN, check="tmp", reason="no /tmp", started=NOW)
        record.cached = task_id != "fresh"
        record.findings = [] if task_id == "listed" else [finding("tmp", Outcome.FAIL, "no /tmp", 0.0)]
        tally.add(record)
    # All three were on it as the run began; a person took them out since.
    skip_list_sync.update(skips, tally, "r", before={name: entry(name) for name in tally.records})
    assert set(skips.read()) == {"fresh"}
    skip_list_sync.update(skips, tally, "r", before={})
    assert set(skips.read()) == {"fresh", "cached"}


# On the side of the host, in the middle of a run: what another job, or a person, does.
MEANWHILE = """
import os
from taskgate.checks import check
from taskgate.harness.gate.skip_entry import Clearance, Entry
from taskgate.harness.gate.skip_list import open_skip_list

@check()
def meanwhile(sandbox):
    '''A check of these tests.'''
    if sandbox.task.id == "acting" and (what := os.environ.get("MEANWHILE")):
        exec(what)
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_others_do_in_the_middle_of_a_run_stays(
    gate: Gate, sound: str, tmp_path: Path, where: str, workers: tuple[str, ...]
) -> None:
    """One takes a line out, another job puts one in on an image that was rebuilt: this run's end changes neither."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/meanwhile.py").write_text(MEANWHILE)
    text = "version: 1\ndefaults: {repo_path: /testbed, pull: never, python: null}\ntasks:\n"
    text += f"- {{id: acting, image: '{sound}'}}\n- {{id: mended, image: '{sound}'}}\n"
    text += "- {id: gone, image: 'taskgate-test/Gone:1'}\n- {id: wrong, image: '" + sound + "', base_commit: abcdef}\n"
    args = ["--check-path=mine", f"--skip-list={where}", *workers]
    skips = open_skip_list(where)
    assert gate(text, *args).status == 1
    assert set(skips.read()) == {"gone", "wrong"}
    skips.update([entry("mended", digest="sha256:0")], [])
    # `wrong` is known from the list alone now.
    (tmp_path / "results/preflight/cache.jsonl").unlink()
    other = "Entry('mended', 'tmp', 'no /tmp', 'i:1', 'sha256:9', 'f', '2026', '2026', 'other')"
    act = f"open_skip_list({where!r}).update([{other}], ['wrong'])"
    run = gate(text, *args, env={"MEANWHILE": act})
    assert run.status == 1 and run.tasks["wrong"]["cached"] and run.tasks["mended"]["verdict"] == "healthy", run.output
    now = skips.read()
    assert set(now) == {"gone", "mended"} and now["mended"].digest == "sha256:9"
    # Nobody is at work now: the verdict on what the image is clears it.
    assert gate(text, *args).status == 1
    assert set(skips.read()) == {"gone", "wrong"}


def test_a_run_of_agents_leaves_what_others_put_in(tmp_path: Path, client: Any, sound: str, where: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/meanwhile.py").write_text(MEANWHILE.replace("acting", "good-1"))
    skips = open_skip_list(where)
    skips.update([entry("good-1", digest="sha256:0"), entry("good-2", digest="sha256:0")], [])
    other = "Entry('good-1', 'tmp', 'no /tmp', 'i:1', 'sha256:9', 'f', '2026', '2026', 'other')"
    act = f"open_skip_list({where!r}).update([{other}], [])"
    run = running.Run(tmp_path)
    text = running.manifest(running.working(client, sound), "good-1", "good-2")
    ran = run(text, f"--skip-list={where}", "--check-path=mine", env={"MEANWHILE": act})
    assert ran.status == 0 and ran.told() == {"good-1": "done", "good-2": "done"}, ran.output
    assert {one.digest for one in skips.read().values()} == {"sha256:9"}


def test_an_older_cached_verdict_removes_no_newer_entry(where: str) -> None:
    """`--max-age` is long and the list is shared: another host has found the same image broken since."""
    skips = open_skip_list(where)
    newer, older = entry("newer", last=NEW), entry("older", last=OLD)
    skips.update([newer, older], [])
    tally = Tally()
    for task_id in ("newer", "older"):
        record = healthy(task_id)
        record.cached = True
        tally.add(record)
    skip_list_sync.update(skips, tally, "r", before={"newer": newer, "older": older})
    assert set(skips.read()) == {"newer"}


def test_a_merge_of_older_verdicts_removes_no_newer_entry(tmp_path: Path, where: str) -> None:
    open_skip_list(where).update([entry("newer", last=NEW), entry("older", last=OLD)], [])
    merged(tmp_path, where, healthy("newer"), healthy("older"))
    assert set(open_skip_list(where).read()) == {"newer"}


def test_a_fresh_verdict_removes_an_entry_whose_host_has_a_fast_clock(where: str) -> None:
    skips, tally, ahead = open_skip_list(where), Tally(), entry("a", last=NEW)
    skips.update([ahead], [])
    tally.add(healthy("a"))
    skip_list_sync.update(skips, tally, "r", before={"a": ahead})
    assert skips.read() == {}


def test_the_newer_of_two_reasons_for_the_same_image_stays(where: str) -> None:
    skips = open_skip_list(where)
    skips.update([entry("same", "tmp", last=NEW), entry("other", "tmp", last=NEW), entry("old", "tmp", last=OLD)], [])
    skips.update([entry("same"), entry("other", digest="sha256:2"), entry("old", last=NOW)], [])
    assert {task_id: one.check for task_id, one in skips.read().items()} == {
        "same": "tmp", "other": "git_repo", "old": "git_repo",
    }  # fmt: skip


def test_a_full_run_is_one_of_all_checks_that_taskgate_brings() -> None:
    """Whatever order reports list them in, and whatever checks of a user's own were loaded."""
    assert registry.packaged() == set(ORDER)
    few = sorted(registry.packaged())[1:]
    assert skip_list_sync.cleared(healthy("a", few), None) is None
    assert skip_list_sync.cleared(healthy("a", [*registry.packaged(), "own"]), None) is not None
