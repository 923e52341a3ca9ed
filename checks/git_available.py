from collections.abc import Iterator

from taskgate.checks import git
from taskgate.checks.registry import check
from taskgate.harness.box import Box


@check(after="shell")
def git_available(box: Box) -> Iterator[str]:
    """git is installed and runs.

    Install it (`RUN apt-get update && apt-get install -y git`, `RUN apk add git`).
    """
    name = git.program(box)
    if box.sh('command -v "$1"', name).code:
        yield "there is no git on PATH" if name == "git" else f"the runtime's {name} is not there"
    elif box.sh('"$1" --version', name).code:
        yield f"{name} is there but does not run"
