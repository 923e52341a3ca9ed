import secrets
import shlex
from collections.abc import Iterator

from taskgate.checks import Skip, Warn, _program, _python, _server, check
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Agent

# As `python -m MODULE` finds it, from the work directory. os.write: the agent may have replaced sys.stdout. The line
# `done` proves that the import came to its end. With `safe`, the work directory is not searched.
IMPORT = """
import sys
name, mark, safe, attribute = sys.argv[1:]
if safe and sys.path[:1] == [""]:
    del sys.path[0]
import os
def tell(*words):
    os.write(1, ("\\n%s %s\\n" % (mark, " ".join(words))).encode("utf-8", "replace"))
tell("python", sys.executable, "%d.%d.%d" % sys.version_info[:3])
import importlib, importlib.machinery, importlib.util
here = os.getcwd()
def place(module):
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else ""
def is_here(module):
    # In the work directory itself.
    file = place(module)
    return os.path.dirname(os.path.dirname(file) if hasattr(module, "__path__") else file) == here if file else False
def elsewhere(top):
    path = [folder for folder in sys.path if folder not in ("", here)]
    return top in getattr(sys, "stdlib_module_names", ()) or importlib.machinery.PathFinder.find_spec(top, path)
try:
    module = importlib.import_module(name)
    if attribute:
        getattr(module, attribute)
except Exception:
    for top, other in list(sys.modules.items()):
        if "." not in top and is_here(other) and elsewhere(top):
            tell("shadow", top, place(other))
    raise
if getattr(module, "__path__", None) is not None and not getattr(module, "__file__", None):
    if importlib.util.find_spec(name + ".__main__") is None:
        tell("folder", *list(module.__path__)[:1])
elif not safe and is_here(sys.modules[name.partition(".")[0]]) and elsewhere(name.partition(".")[0]):
    tell("local", place(module))
tell("done")
"""


@check(after="workdir")
def agent_start(sandbox: Sandbox) -> Iterator[str]:
    """The agent starts from the work directory as the agent's user: module imports, command succeeds, server answers.

    Read the output: most often a dependency is missing. Install the agent with all it needs into the image.
    """
    agent = sandbox.task.agent
    if agent is None:
        yield Skip("the manifest names no agent")
        return
    if agent.run and not _python.failed(sandbox):
        yield from _program_of(sandbox, agent.run[0])
    if agent.module is not None:
        yield from _module(sandbox, agent)
    elif agent.command is not None:
        yield from _ends_well(sandbox, agent.command, "the agent's command")
    elif agent.server is not None:
        yield from _serves(sandbox, agent)
    if agent.probe is not None:
        yield from _ends_well(sandbox, agent.probe, f"the probe `{shlex.join(agent.probe)}`")


def _module(sandbox: Sandbox, agent: Agent) -> Iterator[str]:
    """As a run starts it: by `python -m`, unless the agent has a program of its own, which is no folder's guest."""
    assert agent.module
    if agent.run:
        file = _program.find(sandbox, sandbox.program(agent.run[0]))
        script = file.path and _program.console_script(sandbox, file.path)
        if file.trouble or not file.path:
            return
        if script:
            yield from _imports(sandbox, script[0], agent.module, safe=True)
            return
    python = _python.interpreter(sandbox)
    if _python.failed(sandbox):
        yield Skip("needs python_available")
    elif python.path is None or python.trouble:
        name = python.path or sandbox.task.python_path or "python3"
        yield f"no Python can import {agent.module}: {name} {python.trouble}"
    else:
        yield from _imports(sandbox, [python.path], agent.module, safe=bool(agent.run))


def _imports(sandbox: Sandbox, python: list[str], module: str, *, safe: bool, attribute: str = "") -> Iterator[str]:
    mark = secrets.token_hex(8)
    run = sandbox.as_agent(
        '"$@"', *python, "-c", IMPORT, module, mark, "safe" if safe else "", attribute, patient=bool(attribute)
    )
    facts = [line.removeprefix(mark).split(maxsplit=1) for line in run.lines if line.startswith(f"{mark} ")]
    known = {words[0]: words[1] if len(words) > 1 else "" for words in facts}
    executable, _, version = known.get("python", "").rpartition(" ")
    by = f"{executable or python[0]} (Python {version})" if version else python[0]
    if run.code:
        name, _, file = known.get("shadow", "").partition(" ")
        shadow = f"; {file} stands in for the module {name}" if file else ""
        yield f"importing {module} with {by} fails: {_last(run.out, mark)}{shadow}"
    elif "done" not in known:
        yield f"importing {module} with {by} ends Python with status 0 before the import is done"
    elif "folder" in known:
        yield f"importing {module} with {by} finds only the folder {known['folder']}, which has no code to start"
    elif "local" in known:
        yield Warn(f"{module} is taken from the work directory ({known['local']}), which hides the installed one")


def _program_of(sandbox: Sandbox, name: str) -> Iterator[str]:
    """The agent's own program, which is not started: that would be the agent's work."""
    program = sandbox.program(name)
    if reason := _program.trouble(sandbox, program):
        short = reason.startswith("is ")
        yield f"the agent's program {name} {reason}" if short else f"the agent's program {name} can't start: {reason}"
        return
    file = _program.find(sandbox, program)
    if file.path and (script := _program.console_script(sandbox, file.path)):
        python, module, attribute = script
        yield from _imports(sandbox, python, module, safe=True, attribute=attribute)


def _ends_well(sandbox: Sandbox, argv: tuple[str, ...], what: str) -> Iterator[str]:
    program = sandbox.program(argv[0])
    run = sandbox.as_agent('"$@"', program, *argv[1:])
    if run.code:
        why = _program.trouble(sandbox, program) if run.code in (126, 127) else None
        sandbox.last = run
        yield f"{what} ends with status {run.code}: {why or _last(run.out)}"


def _serves(sandbox: Sandbox, agent: Agent) -> Iterator[str]:
    """Start the server and wait for its health, asked by a Python, else by what there is."""
    assert agent.server
    program = sandbox.program(agent.server[0])
    argv = [program, *agent.server[1:]]
    url, mark = f"http://127.0.0.1:{agent.port}{agent.health}", secrets.token_hex(8)
    python = _python.interpreter(sandbox)
    if python.path and not python.trouble and not sandbox.facts.get("python_failed"):
        run = sandbox.as_agent('exec "$@"', python.path, "-c", _server.BY_PYTHON, url, mark, *argv)
    else:
        run = sandbox.as_agent(_server.BY_SHELL, url, mark, f"{agent.port:04X}", *argv)
    answers = [line for line in run.lines if line.startswith(mark)]
    if run.code or not answers:
        why = _program.trouble(sandbox, program)
        sandbox.last = run
        before = _last("\n".join(line for line in run.lines if not line.startswith(mark)))
        how = answers[-1].removeprefix(mark).strip() if answers else ""
        ended = f"the server {how} before it was ready" if how else "the server can't be started"
        yield f"{ended}: {f'{agent.server[0]} {why}' if why else before}"
    elif answers[-1].endswith("listens"):
        yield Warn(
            f"the server listens on port {agent.port}; nothing in the image can ask {agent.health} for its health"
        )


def _last(output: str, mark: str = "") -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not (mark and line.startswith(mark))]
    last = lines[-1][:300] if lines else "it printed nothing"
    if "no new privileges" in output.lower():
        last += " (the manifest's `privileges` is no-new; set it to `default` where the run lets the agent use sudo)"
    return last
