"""What a report is: how journal, verdicts.json, summaries, and reports of your own plug in.

A plugin or a conftest.py adds reports through the hook `pytest_taskgate_reports(run)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskgate.harness.gate.tally import Tally
from taskgate.harness.gate.verdict import Record


class Report:
    """Follows a run in the controller process. Any method may raise InfraError or UsageError: the message is shown at
    the end, the exit status becomes 10, and the other reports go on.

    A report is also registered as a pytest plugin, so it may implement pytest's hooks.
    """

    def begin(self, tally: Tally) -> None:
        """The run's scope is known; nothing is judged yet."""

    def add(self, record: Record, tally: Tally) -> None:
        """A verdict was reached; `tally` includes it. A later record on the same task replaces the earlier one."""

    def finish(self, tally: Tally) -> None:
        """The run is over; verdicts may be missing."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run that a report is about.

    `run`: its id. `out`: the --out folder. `replay`: the folder whose verdicts are reported again, None for a run that
    judges. `skip_list`: a path, or a URL that may hold a password. `rows`: above this number of images the HTML report
    lists failures only. `agentless`: ids of tasks that name no agent. `checks`: what --checks asked for, None for all.
    `notices`: lines that a reader must see first, filled before `finish`. `task_id`: the id of the task whose case a
    node id names. `record_of`: the record that a test's report is about. `reproduce`: a shell command that judges a
    record's image again.
    """

    config: pytest.Config
    tally: Tally
    run: str
    out: Path
    replay: Path | None
    skip_list: str
    rows: int
    agentless: frozenset[str]
    checks: str | None
    notices: list[str]
    task_id: Callable[[str], str | None]
    record_of: Callable[[pytest.TestReport], Record | None]
    reproduce: Callable[[Record], str]
