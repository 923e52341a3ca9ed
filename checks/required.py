from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.checks._program import trouble
from taskgate.checks._python import task_python
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="workdir")
def required(sandbox: Sandbox) -> Iterator[str]:
    """The commands, files and Python modules that the manifest requires are there.

    Install what is missing, or take it out of `require` in the manifest.
    """
    need, where = sandbox.task.require, sandbox.start_dir
    if not (need.commands or need.files or need.modules):
        yield Skip("the manifest requires nothing")
        return
    for name in need.commands:
        if reason := trouble(sandbox, name):
            yield f"the command {name} {reason}" if reason.startswith("is ") else f"the command {name}: {reason}"
        elif name == "sudo" and sandbox.task.privileges == "no-new":
            yield Warn("sudo is there and gains nothing: the manifest's `privileges` is no-new, not default")
    for name in need.files:
        if sandbox.sh('cd "$1" || exit; case $2 in /*) f=$2 ;; *) f=./$2 ;; esac; [ -e "$f" ]', where, name).code:
            yield f"the file {name} is missing"
    for name in need.modules:
        script = '"$1" -c "import importlib, sys; importlib.import_module(sys.argv[1])" "$2"'
        python = task_python(sandbox)
        if python is None:
            yield f"the Python module {name} can't be imported: the image has no Python"
        elif sandbox.as_agent(script, python, name).code:
            yield f"the Python module {name} can't be imported by {python}"
