import secrets
from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Agent

# os.write: the agent may have replaced sys.stdout. The mark proves that the import came to its end.
IMPORT = "import importlib, os, sys; importlib.import_module(sys.argv[1]); os.write(1, ('\\n' + sys.argv[2]).encode())"


# As in a run: from the work directory, with the agent's own variables; what follows `--` is started.
ENTER = 'cd "$1" || exit; shift; while [ "$1" != -- ]; do export "$1"; shift; done; shift; '

# Leaves the server running: it ends with the check.
SERVE = """
import subprocess, sys, time, urllib.error, urllib.request
url, mark, *argv = sys.argv[1:]
server = subprocess.Popen(argv)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while server.poll() is None:
    try:
        opener.open(url, timeout=5).close()
        print("\\n" + mark + " ready", flush=True)
        sys.exit()
    except urllib.error.HTTPError as error:
        print("%s answers %d" % (url, error.code), flush=True)
    except OSError:
        pass
    time.sleep(0.1)
print("\\n" + mark + " ended with status %d" % server.returncode, flush=True)
sys.exit(137 if server.returncode == -9 else 1)
"""


@check(after="workdir")
def agent_start(sandbox: Sandbox) -> Iterator[str]:
    """The agent starts from the work directory as the agent's user: module imports, command succeeds, server answers.

    Read the output: most often a dependency is missing. Install the agent with all it needs into the image.
    """
    agent, where = sandbox.task.agent, sandbox.task.start_dir
    # Where python_available is off, nobody has looked for it.
    python = sandbox.facts.get("python", "python3")
    if agent is None:
        yield Skip("the manifest names no agent")
        return
    begin = [where, *(f"{name}={value}" for name, value in sandbox.agent_environment.items()), "--"]
    if agent.module is not None:
        if python is None:
            yield Skip("needs python_available")
            return
        mark = secrets.token_hex(8)
        run = sandbox.sh(ENTER + '"$@"', *begin, python, "-c", IMPORT, agent.module, mark)
        if run.code:
            yield f"importing {agent.module} fails: {_last(run.out)}"
        elif mark not in run.out:
            yield f"importing {agent.module} ends Python with status 0 before the import is done"
    elif agent.command is not None:
        program, *rest = agent.command
        run = sandbox.sh(ENTER + '"$@"', *begin, sandbox.program(program), *rest)
        if run.code:
            yield f"the agent's command ends with status {run.code}: {_last(run.out)}"
    elif agent.server is not None and python is not None:
        yield from _serve(sandbox, agent, python, begin)
    for argv in (agent.run, agent.server):
        if argv and sandbox.sh(ENTER + 'command -v -- "$1"', *begin, sandbox.program(argv[0])).code:
            yield f"the agent's program {argv[0]} is not there"


def _serve(sandbox: Sandbox, agent: Agent, python: str, begin: list[str]) -> Iterator[str]:
    """Start the server and wait for its health."""
    assert agent.server
    program, *rest = agent.server
    url, mark = f"http://127.0.0.1:{agent.port}{agent.health}", secrets.token_hex(8)
    run = sandbox.sh(ENTER + 'exec "$@"', *begin, python, "-c", SERVE, url, mark, sandbox.program(program), *rest)
    told = [line for line in run.lines if line.startswith(mark)]
    if run.code and told:
        before = [line for line in run.lines if not line.startswith(mark)]
        yield f"the server {told[-1].removeprefix(mark).strip()} before it was ready: {_last(chr(10).join(before))}"
    elif run.code or not told:
        yield f"the server can't be started: {_last(run.out)}"


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
