from collections.abc import Iterator

from taskgate.checks.registry import check
from taskgate.checks.writing import try_write
from taskgate.harness.box import Box


@check(after="shell")
def home(box: Box) -> Iterator[str]:
    """The agent's user has a home directory (HOME) and can write there.

    `RUN useradd -m NAME`, or `ENV HOME=/some/directory` that this user owns.
    """
    path = box.sh('printf %s "${HOME-}"').out
    if not path:
        yield "HOME is not set"
    elif box.sh('[ -d "$1" ]', path).code:
        yield f"the home directory {path} does not exist"
    elif try_write(box, path).code:
        yield f"the home directory {path} can't be written by the agent's user"
