"""ProgramBench: not supported, for neither its reference solutions nor its tests' archives are in its package.

Source: the package `programbench` 1.2.5, eval/eval.py, which builds a submission in one container and runs each branch
of tests, downloaded from its own storage, in another.
"""

from __future__ import annotations

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.plan import Plan
from taskgate.harness.tasks.task import Task


def plan(task: Task) -> Plan:
    """Raises UsageError."""
    problem = "tasks of ProgramBench can't be proven: their reference solutions are not published"
    raise UsageError(problem, field=f"{task.id}.proof.harness")
