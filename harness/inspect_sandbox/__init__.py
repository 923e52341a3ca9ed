"""A sandbox provider for inspect_ai on the container library: `sandbox=("taskgate", "IMAGE")`.

Needs the extra `inspect`. inspect_ai finds it through the entry point group `inspect_ai`.
"""

from taskgate.harness.inspect_sandbox.provider import SandboxConfig, TaskgateSandbox

__all__ = ["SandboxConfig", "TaskgateSandbox"]
