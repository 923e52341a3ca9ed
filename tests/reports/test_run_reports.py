"""report.html and junit.xml of a run: complete, harmless, and quick to read with ten thousand tasks."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from taskgate.harness.runner import run_results
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_results import RunRow
from taskgate.reports import run_html, run_junit

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = "<script>document.title='pwned'</script>\x1b[31m\u202e&\"'"


def _rows(count: int) -> list[RunRow]:
    states = ("done", "done", "done", "failed", "infra", "skipped")
    return [
        RunRow(
            f"task-{number}",
            state := states[number % 6],
            None if state == "done" else f"reason {number % 5}",
            0.0 if state == "skipped" else 60.0 + number % 300,
            number % 50,
            0.25,
            f"tcp://engine-{number % 3}:2375",
            (BEGUN + timedelta(seconds=number * 3)).isoformat(),
        )
        for number in range(count)
    ]


def test_what_stands_in_it() -> None:
    page = run_html.render(_rows(60), title="a run")
    assert page.count("<tr><td>task-") == 60 and page.count("<svg") == 3
    assert '<div class="failed"><b>10</b>failed</div>' in page and "<b>15.00</b>cost" in page
    groups = run_html.groups(_rows(60))
    assert sum(group.count for group in groups) == 30 and groups[0].count >= groups[-1].count


def test_agents_that_ran_at_once_have_lanes_of_their_own() -> None:
    rows = [RunRow(str(n), "done", seconds=10.0, engine="e", started=BEGUN.isoformat()) for n in range(3)]
    rows.append(RunRow("3", "done", seconds=5.0, engine="e", started=(BEGUN + timedelta(seconds=10)).isoformat()))
    (lanes,) = run_html.lanes(rows)
    assert [bar.y for bar in lanes.bars] == [0, 8, 16, 0] and lanes.bars[3].x == pytest.approx(1000 * 10 / 15, abs=0.1)


def test_nothing_in_it_is_taken_for_more_than_text() -> None:
    rows = [RunRow(HOSTILE, "failed", HOSTILE, 1.0, 1, 1.0, HOSTILE, BEGUN.isoformat())]
    page = run_html.render(rows, title=HOSTILE)
    assert "<script>document" not in page and "\x1b" not in page and "\u202e" not in page
    case = ElementTree.fromstring(run_junit.render(rows, name=HOSTILE)).find(".//testcase")
    assert case is not None and "<script>" in case.attrib["name"] and "\\x1b" in case.attrib["name"]


def test_junit() -> None:
    suite = ElementTree.fromstring(run_junit.render(_rows(60), name="a run")).find("testsuite")
    assert suite is not None
    assert [suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")] == ["60", "10", "10", "10"]
    failure = suite.find("testcase[@name='task-3']/failure")
    assert failure is not None and failure.attrib["message"] == "reason 3"


@pytest.mark.parametrize(
    ("trajectory", "cost"),
    [
        ({"info": {"model_stats": {"instance_cost": 0.5}}}, 0.5),
        ({"metrics": {"accumulated_cost": 2}}, 2.0),
        ({"total_cost": float("nan")}, None),
        ({"cost": "much"}, None),
        ([], None),
        ({"messages": "x" * (5 << 20), "info": {"model_stats": {"instance_cost": 1.25}}}, 1.25),
    ],
)
def test_costs(tmp_path: Path, trajectory: object, cost: float | None) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/trajectory.json").write_text(json.dumps(trajectory))
    assert run_results.cost_of(Results(tmp_path), "one") == cost


def test_ten_thousand_tasks_in_a_browser(tmp_path: Path) -> None:
    selenium = pytest.importorskip("selenium.webdriver.common.by")
    from tests import browser

    page = run_html.render(_rows(10_000), title="a run")
    (tmp_path / "report.html").write_text(page)
    with browser.chromium(tmp_path / "profile") as driver:
        begun = time.monotonic()
        driver.get((tmp_path / "report.html").as_uri())
        assert len(driver.find_elements(selenium.By.CSS_SELECTOR, "#tasks tbody tr")) == 10_000
        driver.find_element(selenium.By.ID, "filter").send_keys("task-9999")
        shown = driver.execute_script(
            "return [...document.querySelectorAll('#tasks tbody tr')].filter(row => !row.hidden).length"
        )
        assert shown == 1 and time.monotonic() - begun < 60
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
