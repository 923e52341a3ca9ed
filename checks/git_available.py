from collections.abc import Iterator

from taskgate.checks.registry import check
from taskgate.harness.box import Box


@check(after="shell")
def git_available(box: Box) -> Iterator[str]:
    """git is installed and runs.

    Install it (`RUN apt-get update && apt-get install -y git`, `RUN apk add git`).
    """
    if box.sh("command -v git").code:
        yield "there is no git on PATH"
    elif box.sh("git --version").code:
        yield "git is there but does not run"
