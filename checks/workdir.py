from collections.abc import Iterator

from taskgate.checks.registry import check
from taskgate.checks.writing import try_write
from taskgate.harness.box import Box


@check(after="shell")
def workdir(box: Box) -> Iterator[str]:
    """The directory where the agent starts exists, and the agent's user can enter it and write there.

    Create it and give it to the agent's user (`RUN chown -R USER DIR`), or correct `workdir` or `repo_path`.
    """
    path = box.task.start_dir
    if box.sh('[ -e "$1" ] || [ -L "$1" ]', path).code:
        yield f"{path} does not exist"
    elif box.sh('[ -d "$1" ]', path).code:
        yield f"{path} is not a directory"
    elif box.sh('cd "$1"', path).code:
        yield f"{path} can't be entered by the agent's user"
    elif try_write(box, path).code:
        yield f"{path} can't be written by the agent's user"
