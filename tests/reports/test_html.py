"""The HTML report in a real browser: what it shows, what it must not run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from examples import images
from tests.browser import chromium
from tests.conftest import Gate, Run

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"
ATTACK = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
HOSTILE = {
    "hostile": """RUN printf '%s\\n' 'raise SystemExit("""
    """"<img src=x onerror=window.hit=1></pre><script>window.hit=1</script>\\033[31m\\033]0;owned\\007")'"""
    """ >/usr/lib/python3/dist-packages/agent.py""",
    "no-git": "RUN rm /usr/bin/git",
    "no-python": "RUN rm /usr/bin/python3*",
}
CRASH = """
import os, signal
from taskgate.checks import check

@check(after='shell')
def deadly(sandbox):
    '''A check of these tests.'''
    if sandbox.task.id == 'crash<b>x</b>':
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def manifest(client: Any, sound: str) -> str:
    """Two sound tasks, four broken ones, one without a verdict, one for another machine, one that kills its worker."""
    tags = {name: images.build(client, f"taskgate-test/{name}:1", f"FROM {sound}\n{lines}") for name, lines in
            HOSTILE.items()}  # fmt: skip
    foreign = images.load(client, "taskgate-test/foreign:1", {"bin/sh": b"\x7fELF"}, "s390x", {"bin/sh": 0o755})
    rows = [
        ("good-1", sound, ""),
        ("good-2", sound, ""),
        (f"hostile {ATTACK}", tags["hostile"], ""),
        ("git-1", tags["no-git"], ""),
        ("git-2", tags["no-git"], ""),
        ("python-1", tags["no-python"], ""),
        ("far", "127.0.0.1:1/absent:1", "pull: always, "),
        ("foreign", foreign, "platform: linux/s390x, "),
        ("crash<b>x</b>", sound, ""),
    ]
    return HEAD + "".join(f"- {{id: '{name}', {more}image: '{image}'}}\n" for name, image, more in rows)


@pytest.fixture
def report(gate: Gate, manifest: str, tmp_path: Path, browser: Chrome) -> Run:
    """A run over all of them under xdist, its report open in the browser."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/deadly.py").write_text(CRASH)
    run = gate(manifest, "-n", "2", "--html=r.html", "--self-contained-html", "--check-path=mine")
    assert run.status == 10, run.output
    browser.get((tmp_path / "r.html").as_uri())
    return run


def _rows(browser: Chrome) -> dict[str, Any]:
    """The visible rows by their first line, the task's id."""
    found = browser.find_elements(By.CSS_SELECTOR, "#results-table tbody.results-table-row")
    return {row.find_element(By.CSS_SELECTOR, ".col-testId").text.splitlines()[0]: row for row in found
            if row.is_displayed()}  # fmt: skip


def test_the_report_in_a_browser(report: Run, browser: Chrome) -> None:
    tiles = {tile.text.split("\n")[1]: int(tile.text.split("\n")[0]) for tile in
             browser.find_elements(By.CSS_SELECTOR, ".tg-tile")}  # fmt: skip
    assert tiles == {"healthy": 2, "broken": 4, "incompatible": 1, "infra": 2, "not judged": 0}
    rows = _rows(browser)
    assert set(rows) == set(report.tasks)
    assert "broken: git_available" in rows["git-1"].text and "there is no git on PATH" in rows["git-1"].text
    assert "crashed" in rows["crash<b>x</b>"].text and "infra" in rows["crash<b>x</b>"].text
    assert "infra" in rows["far"].text and "incompatible" in rows["foreign"].text

    # Nothing that an image or a manifest said has run, nor has the browser complained.
    assert browser.execute_script("return window.hit") is None
    assert not browser.find_elements(By.CSS_SELECTOR, "[onerror], .col-testId b, #results-table script")
    said = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in said if entry["level"] == "SEVERE"] == []
    assert "\x1b" not in browser.page_source and "\x07" not in browser.page_source

    chart = browser.find_element(By.CSS_SELECTOR, "svg.tg-chart")
    words = [text.text for text in chart.find_elements(By.TAG_NAME, "text")]
    assert words == ["git_available", "2", "agent_start", "1", "python_available", "1"]
    widths = [float(bar.get_attribute("width") or 0) for bar in chart.find_elements(By.TAG_NAME, "rect")]
    assert widths[0] == 2 * widths[1] == 2 * widths[2]


def test_what_a_failure_tells(report: Run, browser: Chrome) -> None:
    row = _rows(browser)[f"hostile {ATTACK}"]
    told = {term.text: value.text for term, value in zip(
        row.find_elements(By.CSS_SELECTOR, ".tg-details dt"),
        row.find_elements(By.CSS_SELECTOR, ".tg-details dd"),
        strict=True,
    )}  # fmt: skip
    record = report.tasks[f"hostile {ATTACK}"]
    assert told["How to fix it"] == record["hint"] and "onerror" in told["Reason"]
    assert "importlib" in told["Command (status: 1)"]
    assert "<img src=x onerror=window.hit=1></pre><script>" in told["Output"] and "\\x1b[31m" in told["Output"]
    assert record["digest"] in told["Image"]


def test_the_command_that_reproduces_it(report: Run, browser: Chrome, tmp_path: Path) -> None:
    """It is copied from the page and run in a shell, whatever the id holds."""
    row = _rows(browser)[f"hostile {ATTACK}"]
    terms = [term.text for term in row.find_elements(By.CSS_SELECTOR, ".tg-details dt")]
    values = row.find_elements(By.CSS_SELECTOR, ".tg-details dd")
    command = values[terms.index("Judge it again")].text
    (tmp_path / "results/preflight/verdicts.json").unlink()
    import sys

    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(report.tasks) == {f"hostile {ATTACK}"} and not report.tasks[f"hostile {ATTACK}"]["cached"]


def test_filtering_by_check(report: Run, browser: Chrome) -> None:
    def press(name: str) -> set[str]:
        browser.find_element(By.CSS_SELECTOR, f'.tg-filter button[data-filter="{name}"]').click()
        return set(_rows(browser))

    assert press("git_available") == {"git-1", "git-2"}
    pressed = browser.find_elements(By.CSS_SELECTOR, '.tg-filter button[aria-pressed="true"]')
    assert [button.text for button in pressed] == ["git_available (2)"]
    # Sorting draws the table anew: the filter must hold.
    browser.find_element(By.CSS_SELECTOR, "th.sortable").click()
    assert set(_rows(browser)) == {"git-1", "git-2"}
    assert press("python_available") == {"python-1"}
    assert press("") == set(report.tasks)


def test_searching_and_the_verdict(report: Run, browser: Chrome) -> None:
    search = browser.find_element(By.ID, "tg-search")
    search.send_keys("no git PATH")
    assert set(_rows(browser)) == {"git-1", "git-2"}
    # A worker that died has a row for each of its tries.
    assert browser.find_element(By.ID, "tg-shown").text == f"2 of {len(report.tasks) + 1} rows"
    # Sorting draws the table anew: the search must hold.
    browser.find_element(By.CSS_SELECTOR, "th.sortable").click()
    assert set(_rows(browser)) == {"git-1", "git-2"}
    search.clear()
    search.send_keys(" ")
    browser.find_element(By.CSS_SELECTOR, '#tg-verdict option[value="infra"]').click()
    assert set(_rows(browser)) == {"far", "crash<b>x</b>"}


def test_groups_of_the_same_reason(report: Run, browser: Chrome) -> None:
    rows = browser.find_elements(By.CSS_SELECTOR, ".tg-groups tr")[1:]
    assert len(rows) == len({(task["check"], task["reason"]) for task in report.tasks.values()}) - 1
    first = rows[0]
    assert first.text.split() == ["2", "broken", "git_available:", "there", "is", "no", "git", "on", "PATH"]
    first.find_element(By.TAG_NAME, "summary").click()
    assert first.find_element(By.CSS_SELECTOR, ".tg-ids").text == "git-1, git-2"
    # The environment is of interest last.
    body = browser.find_element(By.TAG_NAME, "body").text
    assert body.index("Failures by check") < body.index("Failures by reason") < body.index("Environment")


def test_failures_only_beyond_a_threshold(gate: Gate, manifest: str, tmp_path: Path, browser: Chrome) -> None:
    run = gate(manifest.replace("crash<b>x</b>", "good-3"), "--html=r.html", "--report-rows=5", "-n", "2")
    assert run.status == 10, run.output
    browser.get((tmp_path / "r.html").as_uri())
    assert set(_rows(browser)) == {name for name, task in run.tasks.items() if task["verdict"] != "healthy"}
    assert "there are more than 5 images" in browser.find_element(By.TAG_NAME, "body").text
    tile = browser.find_element(By.CSS_SELECTOR, ".tg-tile.healthy b")
    assert tile.text == "3"


def test_a_sound_run_has_no_chart(gate: Gate, sound: str, tmp_path: Path, browser: Chrome) -> None:
    run = gate(f"{HEAD}- {{id: one, image: '{sound}'}}\n", "--html=r.html")
    assert run.status == 0, run.output
    browser.get((tmp_path / "r.html").as_uri())
    assert set(_rows(browser)) == {"one"}
    assert not browser.find_elements(By.CSS_SELECTOR, ".tg-chart, .tg-filter")
