"""Cases by the hundred thousand: what pytest keeps of each one to the end, made small."""

from __future__ import annotations

import sys
from typing import Any

import pytest

NO_WORDS: dict[str, Any] = {}
NONE: list[Any] = []


def trim(config: pytest.Config, report: pytest.TestReport) -> None:
    """Let go of what nobody asks for any more once every plugin has seen the report of an image's case."""
    report.user_properties = NONE
    report.keywords = NO_WORDS
    if report.passed:
        _share(report)
    terminal = config.pluginmanager.getplugin("terminalreporter")
    # Set-ups and teardowns that went well, of which nothing is told unless one asks for everything.
    if terminal and not set(config.option.reportchars or "") & set("pPA"):
        terminal.stats.pop("", None)


def _share(report: pytest.TestReport) -> None:
    """Reports that came from a worker have texts of their own where all of them say the same."""
    about = vars(report)
    about.update({name: sys.intern(value) for name, value in about.items() if type(value) is str})
    path, line, name = report.location
    report.location = (sys.intern(path), line, name)
    if not report.sections:
        report.sections = NONE
