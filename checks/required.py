from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="workdir")
def required(sandbox: Sandbox) -> Iterator[str]:
    """The commands, files and Python modules that the manifest requires are there.

    Install what is missing, or take it out of `require` in the manifest.
    """
    need, where = sandbox.task.require, sandbox.task.start_dir
    if not (need.commands or need.files or need.modules):
        yield Skip("the manifest requires nothing")
        return
    for name in need.commands:
        if sandbox.sh('cd "$1" && command -v -- "$2"', where, name).code:
            yield f"the command {name} is not on PATH"
    for name in need.files:
        if sandbox.sh('cd "$1" || exit; case $2 in /*) f=$2 ;; *) f=./$2 ;; esac; [ -e "$f" ]', where, name).code:
            yield f"the file {name} is missing"
    for name in need.modules:
        # The task's own Python, even where the agent has brought one for itself.
        python = "python3" if sandbox.runtime else sandbox.facts.get("python") or "python3"
        script = 'cd "$1" && exec "$2" -c "import importlib, sys; importlib.import_module(sys.argv[1])" "$3"'
        if sandbox.sh(script, where, python, name).code:
            yield f"the Python module {name} can't be imported"
