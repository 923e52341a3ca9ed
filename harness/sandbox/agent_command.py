"""How an agent's commands are started: the same when they are checked as when they run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from taskgate.harness.tasks.task import Agent, Task

# A login shell sets PATH anew: the runtime's programs stay last on it.
KEEP_RUNTIME = 'PATH="$PATH${TASKGATE_RUNTIME:+:$TASKGATE_RUNTIME/bin}"; export PATH; '


def argv_of(agent: Agent, task: Task) -> tuple[str, ...]:
    """What works on a task, without the task's id: `run`, else the module by the task's Python."""
    return agent.run or (task.python_path or "python3", "-m", str(agent.module))


def through(shell: Sequence[str] | None, argv: Sequence[str]) -> tuple[str, ...]:
    """The argv that starts `argv` as the task's harness does: directly, or by its shell."""
    return through_text(shell, shlex.join(argv)) if shell else tuple(argv)


def through_text(shell: Sequence[str], text: str) -> tuple[str, ...]:
    """The argv that has the task's shell run `text`."""
    return (*shell, KEEP_RUNTIME + text)
