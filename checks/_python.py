"""The agent's Python. Shared by checks; declares none."""

from taskgate.checks._program import Found, find
from taskgate.harness.sandbox.sandbox import Sandbox


def interpreter(sandbox: Sandbox) -> Found:
    """What a run starts the agent's module by: the manifest's interpreter, the runtime's, else python3 on PATH."""
    brought = sandbox.runtime.python if sandbox.runtime else None
    if "interpreter" not in sandbox.facts:
        sandbox.facts["interpreter"] = find(sandbox, sandbox.task.python_path or brought or "python3", "/")
    program: Found = sandbox.facts["interpreter"]
    return program


def task_python(sandbox: Sandbox) -> str | None:
    """The task's own Python, even where the agent has brought one for itself; None where the image has none."""
    if not sandbox.runtime:
        return interpreter(sandbox).path or find(sandbox, "python", "/").path
    program = find(sandbox, "python3", "/")
    brought = program.path is None or program.path.startswith(f"{sandbox.runtime.prefix}/")
    return None if brought or program.trouble else program.path


def failed(sandbox: Sandbox) -> bool:
    """Has python_available held the agent's Python against the image? Then what follows from it is not held as well."""
    return bool(sandbox.facts.get("python_failed")) and sandbox.task.checks.get("python_available") != "warn"
