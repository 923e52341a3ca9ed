from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.harness.base.errors import StartFailed
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="user")
def shell(sandbox: Sandbox) -> Iterator[str]:
    """The image has a working /bin/sh.

    Base the image on one that has a shell, or add a static busybox as /bin/sh.
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
