"""How each family of task sets is solved and tested, one file per family. A grader turns a task into a plan."""

from __future__ import annotations

import importlib

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.plan import Plan
from taskgate.harness.tasks.task import Task

MODULES = {
    "command": "command",
    "harbor": "harbor",
    "multi-swe-bench": "multi_swe_bench",
    "programbench": "programbench",
    "swebench": "swebench",
    "swesmith": "swesmith",
    "terminal-bench": "terminal_bench",
}


def plan_of(task: Task) -> Plan:
    """The plan of a task's runs by the harness that its manifest names. Raises UsageError."""
    if task.proof is None:
        raise UsageError("has no proof: name a solution and the tests", field=task.id)
    name = MODULES.get(task.proof.harness)
    if name is None:
        raise UsageError(f"tasks of {task.proof.harness} can't be proven yet", field=f"{task.id}.proof.harness")
    plan: Plan = importlib.import_module(f"{__name__}.{name}").plan(task)
    return plan
