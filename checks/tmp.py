from collections.abc import Iterator

from taskgate.checks import check
from taskgate.checks._writing import try_write
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def tmp(sandbox: Sandbox) -> Iterator[str]:
    """The directory for temporary files (TMPDIR, else /tmp) exists and can be written.

    `RUN mkdir -p /tmp && chmod 1777 /tmp`.
    """
    path = sandbox.sh('printf %s "${TMPDIR:-/tmp}"').out
    if sandbox.sh('[ -d "$1" ]', path).code:
        yield f"{path} is not a directory"
    elif try_write(sandbox, path).code:
        yield f"{path} can't be written by the agent's user"
