"""What a task's container has beyond a plain one: capabilities, devices, memory file systems, limits of processes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from taskgate.harness.base.errors import InfraError, PlatformUnavailable
from taskgate.harness.engine import classification
from taskgate.harness.sandbox import services
from taskgate.harness.tasks.task import Task

# What engines answer where the host can't give what a task asks for: no GPU driver, an unknown runtime or profile, a
# capability that the kernel or a rootless engine does not have.
REFUSED = re.compile(
    r"could not select device driver|nvidia-container|unresolvable CDI devices|unknown device driver"
    r"|unknown capability|invalid capability|invalid CapAdd|capabilities? .*not (?:supported|permitted)"
    r"|seccomp.*(?:not|un)supported|apparmor.*(?:not|un)(?: is)? ?(?:supported|enabled|loaded)"
    r"|docker-init|catatonit|(?:opening|decoding) seccomp profile|invalid --security-opt|error setting rlimit",
    re.I,
)


def host_config(task: Task) -> dict[str, Any]:
    """As parameters of the SDK's `create_host_config`."""
    options = [*task.security_opt, *(["no-new-privileges"] if task.privileges == "no-new" else [])]
    return {
        "security_opt": options or None,
        "cap_add": list(task.capabilities.add) or None,
        "cap_drop": list(task.capabilities.drop) or None,
        "shm_size": task.shm_size,
        "init": task.init or None,
        "ulimits": [_ulimit(name, limit) for name, limit in task.ulimits.items()] or None,
        "tmpfs": dict(_tmpfs(entry) for entry in task.tmpfs) or None,
        "device_requests": _gpus(task.gpus) if task.gpus else None,
        # A container in another's network has that one's hosts.
        "extra_hosts": services.hosts(task) or None,
    }


def is_special(task: Task) -> bool:
    """Does the task ask for anything that an engine may be unable to give?"""
    return bool(task.init or task.gpus or task.capabilities.add or task.security_opt or task.ulimits)


def rule_out_host(task: Task, message: str) -> None:
    """Raises PlatformUnavailable where an engine's refusal is about what the task asks of its host."""
    if is_special(task) and REFUSED.search(message):
        asked = ", ".join(
            name for name in ("init", "gpus", "capabilities", "security_opt", "ulimits") if _is_set(getattr(task, name))
        )
        raise PlatformUnavailable(f"this host can't give what the task asks for ({asked}): {message[:500]}")


def ruling_out_host(task: Task, create: Callable[..., str]) -> Callable[..., str]:
    """`create`, which raises PlatformUnavailable where the engine refuses what the task asks of its host."""

    def checked(*args: Any, **options: Any) -> str:
        try:
            return create(*args, **options)
        except InfraError as error:
            if answer := classification.answer_of(error):
                rule_out_host(task, answer.text)
            raise

    return checked


def _is_set(value: Any) -> bool:
    return bool(getattr(value, "add", value))


def _ulimit(name: str, limit: str) -> dict[str, Any]:
    soft, _, hard = limit.partition(":")
    return {"name": name, "soft": int(soft), "hard": int(hard)}


def _tmpfs(entry: str) -> tuple[str, str]:
    path, _, options = entry.partition(":")
    return path, options


def _gpus(count: str) -> list[dict[str, Any]]:
    """Podman's compatible API takes the same request, and turns it into CDI devices."""
    return [{"count": -1 if count == "all" else int(count), "capabilities": [["gpu"]]}]
