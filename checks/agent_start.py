import secrets
from collections.abc import Iterator

from taskgate.checks.registry import Skip, check
from taskgate.harness.box import Box

# os.write: the agent may have replaced sys.stdout. The mark proves that the import came to its end.
IMPORT = "import importlib, os, sys; importlib.import_module(sys.argv[1]); os.write(1, ('\\n' + sys.argv[2]).encode())"


@check(after="workdir")
def agent_start(box: Box) -> Iterator[str]:
    """The agent starts from the work directory as the agent's user: its module imports, its command succeeds.

    Read the output: most often a dependency is missing. Install the agent with all it needs into the image.
    """
    agent, where = box.task.agent, box.task.start_dir
    if agent is None:
        yield Skip("the manifest names no agent")
    elif agent.module is not None:
        # Where python_available is off, nobody has looked for it.
        python = box.facts.get("python", "python3")
        if python is None:
            yield Skip("needs python_available")
            return
        mark = secrets.token_hex(8)
        run = box.sh('cd "$1" || exit; shift; p=$1; shift; "$p" -c "$@"', where, python, IMPORT, agent.module, mark)
        if run.code:
            yield f"importing {agent.module} fails: {_last(run.out)}"
        elif mark not in run.out:
            yield f"importing {agent.module} ends Python with status 0 before the import is done"
    elif agent.command is not None:
        run = box.sh('cd "$1" || exit; shift; "$@"', where, *agent.command)
        if run.code:
            yield f"the agent's command ends with status {run.code}: {_last(run.out)}"


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
