"""Saves memory: there may be hundreds of thousands of cases, and pytest keeps every report to the end."""

from __future__ import annotations

import sys
from typing import Any

import pytest

NO_KEYWORDS: dict[str, Any] = {}
NONE: list[Any] = []


def trim(config: pytest.Config, report: pytest.TestReport) -> None:
    """Drop what is not needed once every plugin has seen the report of an image's case."""
    report.user_properties = NONE
    report.keywords = NO_KEYWORDS
    if report.passed:
        _share(report)
    terminal = config.pluginmanager.getplugin("terminalreporter")
    # Passed set-ups and teardowns, which are shown only if all passed tests are.
    if terminal and not set(config.option.reportchars or "") & set("pPA"):
        terminal.stats.pop("", None)


def _share(report: pytest.TestReport) -> None:
    """Let reports that came from workers share their equal texts."""
    about = vars(report)
    about.update({name: sys.intern(value) for name, value in about.items() if type(value) is str})
    path, line, name = report.location
    report.location = (sys.intern(path), line, name)
    if not report.sections:
        report.sections = NONE
