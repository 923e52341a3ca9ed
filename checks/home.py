from collections.abc import Iterator

from taskgate.checks import check
from taskgate.checks._writing import try_write
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def home(sandbox: Sandbox) -> Iterator[str]:
    """The agent's user has a home directory (HOME) and can write there.

    `RUN useradd -m NAME`, or `ENV HOME=/some/directory` that this user owns.
    """
    path = sandbox.sh('printf %s "${HOME-}"').out
    if not path:
        yield "HOME is not set"
    elif sandbox.sh('[ -d "$1" ]', path).code:
        yield f"the home directory {path} does not exist"
    elif try_write(sandbox, path).code:
        yield f"the home directory {path} can't be written by the agent's user"
