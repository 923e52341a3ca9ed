"""The environment of an agent's processes: the same in a check as in a run."""

from __future__ import annotations

from taskgate.harness.engine.client import Image
from taskgate.harness.runtime.bundle import Bundle
from taskgate.harness.tasks.task import Task

# What engines set where neither image nor task does.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def of_agent(image: Image, task: Task, bundle: Bundle | None) -> dict[str, str]:
    """The variables besides the image's and the task's own."""
    path = {**image.env, **task.env}.get("PATH", DEFAULT_PATH)
    # The repository may be another user's than the agent.
    variables = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    if bundle:
        # Last on PATH: what the image has comes first, what it lacks is found.
        variables |= {"TASKGATE_RUNTIME": bundle.prefix, "PATH": f"{path}:{bundle.prefix}/bin"}
    return variables
