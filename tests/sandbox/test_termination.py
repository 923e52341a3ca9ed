"""What a container reports of its processes at a command's deadline, and what is made of it. Without an engine."""

from __future__ import annotations

import pytest

from taskgate.harness.sandbox._termination import Report, is_mark, new_mark


def _report(*rows: str) -> Report:
    report = Report.parse("\n".join([*rows, "uid 0", "sessions 7 12", "end"]))
    assert report
    return report


def _suspects(*rows: str) -> list[int]:
    # Process 1 and its session are always there.
    return [process.pid for process in _report("1 0 1 5 old", *rows).suspects()]


def test_a_report_is_read() -> None:
    report = _report("1 0 1 5 old", "20 1 20 900 own", "30 0 30 901 hidden:1000:100")
    assert report.uid == 0 and report.sessions == {7, 12} and list(report.processes) == [1, 20, 30]
    hidden = report.processes[30]
    assert (hidden.parent, hidden.session, hidden.start, hidden.kind, hidden.owner) == (
        0, 30, 901, "hidden", "1000:100",
    )  # fmt: skip
    assert [process.pid for process in report.own()] == [20]


@pytest.mark.parametrize("text", ["", "1 0 1 5 old", "1 0 1 5 old\nend\nmore", "sh: 1: not found", "END"])
def test_a_report_that_is_not_complete(text: str) -> None:
    assert Report.parse(text) is None


@pytest.mark.parametrize(
    "row",
    ["2 0 2 5", "2 0 2 5 mine", "-2 0 2 5 own", "2 0 2 5 own extra", "12345678901 0 2 5 own", "2 0 2 5 hidden:x:0", ""],
)
def test_a_row_of_another_form_is_left_out(row: str) -> None:
    assert _report(row).processes == {}


@pytest.mark.parametrize("line", ["uid -1", "uid root", "sessions a -2"])
def test_other_lines_of_another_form_are_left_out(line: str) -> None:
    report = Report.parse(f"{line}\nend")
    assert report and report.uid is None and report.sessions == set()


def test_only_a_real_mark_is_another_commands() -> None:
    mark = new_mark()
    assert is_mark(mark) and not is_mark(mark[:-1] + ("0" if mark[-1] != "0" else "1")) and not is_mark("")
    assert _report(f"2 1 2 900 other:{mark}").processes[2].kind == "other"
    assert _report(f"2 1 2 900 other:{'0' * 24}").processes[2].kind == "bare"


@pytest.mark.parametrize("kind", ["bare", "hidden:1000:1000"])
def test_who_may_be_the_commands(kind: str) -> None:
    # An orphan in a session of its own, in one whose leader has ended, and a child of one.
    assert _suspects(f"20 1 20 900 {kind}") == [20]
    assert _suspects(f"20 1 19 900 {kind}") == [20]
    assert _suspects(f"20 1 20 900 {kind}", f"21 20 20 901 {kind}") == [20, 21]


@pytest.mark.parametrize("kind", ["bare", "hidden:1000:1000"])
def test_who_can_not_be_the_commands(kind: str) -> None:
    # One that the engine started, its child, and an orphan in its session.
    assert _suspects(f"20 0 20 900 {kind}") == []
    assert _suspects(f"20 0 20 900 {kind}", f"21 20 20 901 {kind}") == []
    assert _suspects(f"20 0 20 900 {kind}", f"21 1 20 901 {kind}") == []
    # One of process 1's own session, and the child of one that was there before.
    assert _suspects(f"20 1 1 900 {kind}") == []
    assert _suspects("19 1 19 8 old", f"20 19 20 900 {kind}") == []


def test_parents_in_a_circle_come_to_an_end() -> None:
    """A process can't be its own ancestor, but the container may say so."""
    assert len(_suspects("20 21 20 900 bare", "21 20 21 900 bare")) <= 2


def test_the_engines_own_commands() -> None:
    report = _report("1 0 1 5 old", "20 0 20 900 bare", "30 0 30 900 hidden:0:0", "40 0 40 900 own", "41 1 41 9 bare")
    assert [process.pid for process in report.commands()] == [20, 30]
