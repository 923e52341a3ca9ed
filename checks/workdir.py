from collections.abc import Iterator

from taskgate.checks import check
from taskgate.checks._writing import try_write
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def workdir(sandbox: Sandbox) -> Iterator[str]:
    """The directory where the agent starts exists, and the agent's user can enter it and write there.

    Create it and give it to the agent's user (`RUN chown -R USER DIR`), or correct `workdir` or `repo_path`.
    """
    path = sandbox.start_dir
    if sandbox.sh('[ -e "$1" ] || [ -L "$1" ]', path).code:
        yield f"{path} does not exist"
    elif sandbox.sh('[ -d "$1" ]', path).code:
        yield f"{path} is not a directory"
    elif sandbox.sh('cd "$1"', path).code:
        yield f"{path} can't be entered by the agent's user"
    elif try_write(sandbox, path).code:
        yield f"{path} can't be written by the agent's user"
