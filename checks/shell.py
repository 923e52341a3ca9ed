import shlex
from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.harness.base.errors import StartFailed
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="user")
def shell(sandbox: Sandbox) -> Iterator[str]:
    """The image has a working /bin/sh, and the task's own shell where the manifest names one.

    Base the image on one that has a shell, add a static busybox as /bin/sh, or correct `shell` in the manifest.
    """
    try:
        sandbox.start()
    except StartFailed as error:
        yield str(error) if error.cause == "shell" else Skip("the container did not start")
        return
    if sandbox.shell_trouble:
        yield Warn(
            f"{sandbox.shell_trouble}: the runtime's shell stands in, but what the agent runs through /bin/sh fails"
        )
    if sandbox.sh('x=$(echo "$((40 + 2))") && [ "$x" = 42 ]').code:
        yield "/bin/sh does not do what a POSIX shell does"
        return
    if sandbox.task.shell:
        tried = sandbox.as_agent("exit 42", where="/")
        if tried.code != 42:
            last = (tried.lines or ["it printed nothing"])[-1][:200]
            name = shlex.join(sandbox.task.shell)
            yield f"the task's shell `{name}` does not run a command (status {tried.code}): {last}"
