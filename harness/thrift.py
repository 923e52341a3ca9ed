"""Cases by the hundred thousand: what pytest would keep of each one to the end, made small."""

from __future__ import annotations

import pytest


class Passed:
    """What the terminal's reporter is asked for of a case that went well: its number, and `--durations`."""

    __slots__ = ("duration", "nodeid")
    when, outcome, passed, failed, skipped = "call", "passed", True, False, False

    def __init__(self, report: pytest.TestReport) -> None:
        self.nodeid, self.duration = report.nodeid, report.duration


def trim(config: pytest.Config, report: pytest.TestReport) -> None:
    """Let go of what nobody asks for any more once every plugin has seen the report of an image's case."""
    report.user_properties = []
    report.keywords = {}
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is None or set(config.option.reportchars or "") & set("pPA"):
        return
    # Set-ups and teardowns that went well.
    terminal.stats.pop("", None)
    passed = terminal.stats.get("passed")
    if passed and passed[-1] is report:
        passed[-1] = Passed(report)
