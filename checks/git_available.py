from collections.abc import Iterator

from taskgate.checks import _git, check
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def git_available(sandbox: Sandbox) -> Iterator[str]:
    """git is installed and runs.

    Install it (`RUN apt-get update && apt-get install -y git`, `RUN apk add git`).
    """
    name = _git.program(sandbox)
    if sandbox.sh('command -v "$1"', name).code:
        yield "there is no git on PATH" if name == "git" else f"the runtime's {name} is not there"
    elif sandbox.sh('"$1" --version', name).code:
        yield f"{name} is there but does not run"
