"""What a terminal, a Markdown page and a CI job's summary are told; hostile text in every one of them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import images
from taskgate.harness.base import escape
from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Finding, Outcome, Record, Verdict
from taskgate.reports import chart, github
from taskgate.reports.progress import describe
from tests.conftest import Gate

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"
RISKY = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _record(task_id: str, verdict: Verdict, check: str | None = None, reason: str | None = None) -> Record:
    return Record(task_id, f"demo/{task_id}", "sha256:0", "linux/amd64", verdict, check=check, reason=reason)


def _tally(*records: Record) -> Tally:
    tally = Tally(manifest_ids=[record.task_id for record in records])
    for record in records:
        tally.scope.add(record.task_id)
        tally.add(record)
    return tally


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    shown = escape.line(text)
    assert not any(unicodedata.category(char) in RISKY for char in shown) and len(shown) <= 200


@given(st.text())
def test_html_holds_no_markup(text: str) -> None:
    shown = escape.html(text)
    assert not set(shown) & set("<>\"'")
    assert not any(unicodedata.category(char) in RISKY for char in shown if char not in "\n\t")


@given(st.text())
def test_a_markdown_cell_stays_a_cell(text: str) -> None:
    assert not set(escape.markdown(text)) & set("|<>`*_[]()\\\n")


def test_what_is_harmless_stays_as_it_is() -> None:
    for text in ("django__django-1", "tâche — 任务", "a b"):
        assert escape.line(text) == text == escape.html(text) == escape.visible(text)


def test_the_tally_groups_by_reason_the_most_frequent_first() -> None:
    tally = _tally(
        _record("a", Verdict.BROKEN, "tmp", "gone"),
        _record("b", Verdict.BROKEN, "git_repo", "corrupt"),
        _record("c", Verdict.BROKEN, "git_repo", "corrupt"),
        _record("d", Verdict.HEALTHY),
    )
    assert tally.grouped(Verdict.BROKEN) == [("git_repo", "corrupt", ["b", "c"]), ("tmp", "gone", ["a"])]
    tally.records["d"].findings.append(Finding("git_future", Outcome.WARN, "two commits"))
    assert tally.warnings() == [("git_future", "two commits", ["d"])]
    assert tally.complete
    assert not tally.missing


def test_what_is_not_known_makes_a_tally_incomplete() -> None:
    tally = _tally(_record("a", Verdict.HEALTHY), _record("b", Verdict.INFRA, reason="429"))
    assert not tally.complete
    assert tally.missing == {"b"}


def test_a_ci_summary_in_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = _tally(
        _record("evil|<script>`", Verdict.BROKEN, "git_repo", "a | b\n# c <img src=x>"),
        *(_record(f"t{number}", Verdict.INFRA, None, f"reason {number}") for number in range(github.ROWS + 5)),
    )
    where = tmp_path / "summary.md"
    where.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(where))
    github.write(tally)
    text = where.read_text()
    assert text.startswith("before\n") and "| 0 | 1 | 0 | 105 | 0 |" in text and "… and 5 more reasons" in text
    row = next(line for line in text.splitlines() if "git&#95;repo" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5 and "<" not in row and "`" not in row


def test_a_chart_has_a_bar_for_each_check() -> None:
    svg = chart.bars({"a": 1, "b<": 4})
    assert svg.count("<rect") == 2 and svg.index("b&lt;") < svg.index(">a<") and chart.bars({}) == ""


def test_the_progress_line() -> None:
    tally = _tally(_record("a", Verdict.HEALTHY), _record("b", Verdict.BROKEN, "tmp", "gone"))
    assert describe(tally, 9.0) == "[2/2]  healthy 1  broken 1  ETA 00:00"
    tally.scope |= {f"t{number}" for number in range(800)}
    assert describe(tally, 9.0) == "[2/802]  healthy 1  broken 1  ETA 1:00:00"
    # What was known from before arrives in an instant.
    tally.records["a"].cached = True
    assert describe(tally, 9.0) == "[2/802]  healthy 1  broken 1  ETA 2:00:00"


def test_a_terminal_gets_a_progress_line_and_no_letters(sound: str, tmp_path: Path) -> None:
    """A run on a pseudo-terminal, as a person has it."""
    rows = "".join(f"- {{id: t{number}, image: '{sound}'}}\n" for number in range(3))
    (tmp_path / "m.yaml").write_text(HEAD + rows)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--images=m.yaml", "-p", "no:hypothesispytest"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(master)
    assert process.wait() == 0, seen.decode()
    lines = re.findall(r"\[(\d)/3]  healthy (\d)  ETA \d\d:\d\d", seen.decode())
    assert lines[-1] == ("3", "3") and "\r" in seen.decode() and "..." not in seen.decode().split("taskgate")[0]


def test_the_summary_on_the_terminal(gate: Gate, client: Any, sound: str, tmp_path: Path) -> None:
    attack = """RUN echo 'raise SystemExit("\\033[31mred")' >/usr/lib/python3/dist-packages/agent.py"""
    red = images.build(client, "taskgate-test/red:1", f"FROM {sound}\n{attack}")
    rows = f"- {{id: red, image: '{red}'}}\n- {{id: ok, image: '{sound}', agent: null}}\n"
    run = gate(HEAD + rows, env={"GITHUB_STEP_SUMMARY": f"{tmp_path}/s.md"})
    assert run.status == 1, run.output
    assert "2 images: 1 healthy, 1 broken" in run.output
    reason = r"agent_start: importing agent with \S+ \(Python [\d.]+\) fails: \\x1b\[31mred"
    assert re.search(reason, run.output) and "\x1b" not in run.output
    assert "1 without an agent in the manifest: agent_start was skipped" in run.output
    assert "| 1 | 1 | 0 | 0 | 0 |" in (tmp_path / "s.md").read_text()
