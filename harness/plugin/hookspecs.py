"""The hooks that taskgate adds to pytest's."""

from __future__ import annotations

import pytest

from taskgate.reports.report import Report, RunContext


@pytest.hookspec
def pytest_taskgate_reports(run: RunContext) -> list[Report]:  # type: ignore[empty-body]
    """Reports to add to this run. Called once, in the controller, before anything is judged."""
