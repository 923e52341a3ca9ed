from collections.abc import Iterator

from taskgate.checks.registry import Skip, Warn, check
from taskgate.harness.box import Box
from taskgate.harness.errors import StartFailed


@check(after="user")
def shell(box: Box) -> Iterator[str]:
    """The image has a working /bin/sh.

    Base the image on one that has a shell, or add a static busybox as /bin/sh.
    """
    try:
        box.start()
    except StartFailed as error:
        yield str(error) if error.cause == "shell" else Skip("the container did not start")
        return
    if box.shell_trouble:
        yield Warn(f"{box.shell_trouble}: the runtime's shell stands in, but what the agent runs through /bin/sh fails")
    if box.sh('x=$(echo "$((40 + 2))") && [ "$x" = 42 ]').code:
        yield "/bin/sh does not do what a POSIX shell does"
