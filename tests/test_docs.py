"""The README and the documentation site: short, complete, and built without a warning."""

from __future__ import annotations

import re
import subprocess

from scripts import docs_pages
from taskgate.checks import _registry
from tests.conftest import CLONE


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (CLONE / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets and [target for target in targets if not (CLONE / target).exists()] == []


def test_every_check_is_documented_with_a_fix() -> None:
    page = docs_pages.checks()
    packaged = [check for check in _registry.load() if check.body.__module__.startswith("taskgate.checks.")]
    assert len(packaged) >= 17
    for check in packaged:
        assert f"## {check.name}\n\n{check.about}\n\n**How to fix it:** {check.hint}\n" in page


def test_every_option_of_pytest_and_of_each_command_is_documented() -> None:
    page = docs_pages.options()
    declared = re.findall(r'addoption\(\s*"(--[a-z-]+)"', (CLONE / "harness/plugin/options.py").read_text())
    assert len(declared) >= 15 and [name for name in declared if f"`{name}" not in page] == []
    assert {"run", "build", "runtime prune"} <= set(re.findall(r"^## taskgate (.+)$", page, re.M))
    assert re.search(r"^\| `-j=N`|^\| `-j`", page, re.M)


def test_every_field_of_the_manifest_is_documented_once() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", docs_pages.manifest(), re.M)
    assert {"version", "tasks[].image", "tasks[].limits.memory", "tasks[].agent.server"} <= set(rows)
    assert len(rows) == len(set(rows))


def test_the_site_builds_without_a_warning() -> None:
    done = subprocess.run([CLONE / "scripts/docs"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (CLONE / "build/site/checks/index.html").exists()
