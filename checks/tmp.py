from collections.abc import Iterator

from taskgate.checks.registry import check
from taskgate.checks.writing import try_write
from taskgate.harness.box import Box


@check(after="shell")
def tmp(box: Box) -> Iterator[str]:
    """The directory for temporary files (TMPDIR, else /tmp) exists and can be written.

    `RUN mkdir -p /tmp && chmod 1777 /tmp`.
    """
    path = box.sh('printf %s "${TMPDIR:-/tmp}"').out
    if box.sh('[ -d "$1" ]', path).code:
        yield f"{path} is not a directory"
    elif try_write(box, path).code:
        yield f"{path} can't be written by the agent's user"
