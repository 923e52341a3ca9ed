"""Hostile journals, caches and verdicts of another machine's run, as `taskgate merge` gets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.base.errors import InfraError
from taskgate.harness.gate.cache import VerdictCache
from tests.conftest import Gate
from tests.running import TASKGATE, harmless

RECORD: dict[str, Any] = {
    "task_id": "a", "image": "x", "digest": None, "platform": None, "verdict": "broken", "check": "shell", "reason": "r",
    "hint": None, "findings": [{"check": "shell", "outcome": "fail", "reason": "r", "seconds": 0.1}], "seconds": 0.1,
    "cached": False, "started": "2020-01-01T00:00:00+00:00",
}  # fmt: skip

SAID = "\x1b[2J\x07\n::error::x | y\n##[error]x\ud800\u202e"


def _merge(folder: Path, verdicts: bytes | str) -> tuple[int, str]:
    (folder / "m.yaml").write_text("version: 1\ntasks: [{id: a, image: x}]\n")
    (folder / "part").mkdir()
    data = verdicts if isinstance(verdicts, bytes) else verdicts.encode()
    (folder / "part/verdicts.json").write_bytes(data)
    return _run(folder)


def _run(folder: Path) -> tuple[int, str]:
    command = [*TASKGATE, "merge", "part", "--images=m.yaml", "--out=out", "--skip-list=list"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert harmless(done.stdout + done.stderr)
    return done.returncode, done.stdout + done.stderr


WRONG: dict[str, Any] = {
    "task_id": ["a"], "image": 1, "digest": {}, "platform": [], "check": ["shell"], "reason": {"a": "b"}, "hint": 5,
    "findings": "none", "seconds": "long", "cached": "no", "started": 5, "verdict": ["broken"],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_another_kind(tmp_path: Path, name: str) -> None:
    status, told = _merge(tmp_path, json.dumps({"tasks": [{**RECORD, name: WRONG[name]}]}))
    assert status == 4 and "part" in told and "not a record" in told


@pytest.mark.parametrize(
    "verdicts",
    ["", "{", "[]", "5", '{"tasks": 5}', '{"tasks": {}}', '{"tasks": [[]]}', '{"tasks": ["a"]}', "[" * 99999, b"\xff",
     '{"tasks": [' + json.dumps(RECORD).replace("0.1", "NaN") + "]}"],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_verdicts(tmp_path: Path, verdicts: bytes | str) -> None:
    status, told = _merge(tmp_path, verdicts)
    assert status == 4 and "part" in told


def test_what_a_record_says_reaches_no_terminal(tmp_path: Path) -> None:
    spoilt = {**RECORD, **dict.fromkeys(("reason", "check", "hint"), SAID)}
    strange = {**RECORD, "task_id": SAID, "image": SAID}
    status, told = _merge(tmp_path, json.dumps({"tasks": [spoilt, strange]}))
    assert status == 10 and r"\x1b[2J" in told
    assert [line for line in (tmp_path / "list").read_text().splitlines() if not line.startswith("#")] == ["a"]


@pytest.mark.parametrize("verdict", ["broken", "incompatible", "infra", "healthy"])
def test_what_a_record_says_reaches_no_report(tmp_path: Path, gate: Gate, verdict: str) -> None:
    """Every text of a record and its evidence, told with all that pytest can be asked to tell, and to GitHub."""
    finding = {"check": SAID, "outcome": "warn", "reason": SAID, "seconds": 0.1}
    texts = dict.fromkeys(("digest", "platform", "check", "reason", "hint"), SAID)
    record = {**RECORD, **texts, "verdict": verdict, "findings": [finding]}
    evidence = {"command": SAID, "status": SAID, "output": SAID}
    part = tmp_path / "part"
    part.mkdir()
    (part / "verdicts.json").write_text(json.dumps({"tasks": [record]}))
    (part / "cache.jsonl").write_text(json.dumps({"fingerprint": "f", "record": record, "evidence": evidence}) + "\n")
    summary = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    run = gate(
        "version: 1\ntasks: [{id: a, image: x}]\n", f"--replay={part}", "-rA", "-v", "--html=r.html", env=summary
    )
    assert run.status == {"broken": 1, "healthy": 0}.get(verdict, 10), run.output
    assert "INTERNALERROR" not in run.output and r"\x1b[2J" in run.output and harmless(run.output)
    assert (verdict == "broken") == ("command: " in run.output)
    told = (tmp_path / "summary.md").read_text()
    assert harmless(told) and verdict in ("healthy", *re.findall(r"^### (.*)$", told, re.M))
    assert verdict == "healthy" or re.search(r"^\| 1 \|([^|\n]+\|){3}$", told, re.M)


def test_an_image_of_another_name_reaches_no_report(tmp_path: Path, gate: Gate) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "verdicts.json").write_text(json.dumps({"tasks": [{**RECORD, "image": SAID}]}))
    run = gate("version: 1\ntasks: [{id: a, image: x}]\n", f"--replay={part}", "-rA", "-v")
    assert run.status == 10 and r"\x1b[2J" in run.output and harmless(run.output), run.output


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\ntasks: [{id: a, image: x}]\n")
    (tmp_path / "part").mkdir()
    os.mkfifo(tmp_path / "part/verdicts.json")
    assert _run(tmp_path)[0] == 4
    (tmp_path / "part/verdicts.json").unlink()
    (tmp_path / "part/journal.jsonl").write_text(json.dumps(RECORD) + "\n")
    os.mkfifo(tmp_path / "part/cache.jsonl")
    assert _run(tmp_path)[0] == 10


def test_a_line_without_an_end_is_passed_over(tmp_path: Path) -> None:
    """The lines before and after it count; it is never held as a whole."""
    line = json.dumps({"fingerprint": "f", "record": RECORD, "evidence": None}).encode()
    other = line.replace(b'"task_id": "a"', b'"task_id": "b"')
    with (tmp_path / "cache.jsonl").open("wb") as file:
        file.write(line + b"\n")
        file.seek(1 << 30)
        file.write(b"\n" + other + b"\n")
    tracemalloc.start()
    try:
        assert [record.task_id for record in VerdictCache(tmp_path / "cache.jsonl", None).all()] == ["a", "b"]
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_device_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="regular"):
        VerdictCache(Path("/dev/zero"), None).all()
