import re
from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from taskgate.checks import Skip, Warn, check
from taskgate.checks._program import Found, find, of_file
from taskgate.checks._python import interpreter
from taskgate.harness.sandbox.sandbox import Sandbox

# What an agent can't do without, and what some distributions leave out.
NEEDED = (
    "argparse asyncio collections contextlib dataclasses functools hashlib http.client io json logging os pathlib"
    " random re shutil signal socket ssl subprocess sys tempfile threading time traceback typing urllib.request"
    " uuid zlib"
)
USUAL = "bz2 ctypes lzma sqlite3 venv"
PROBE = """
import importlib, sys
needed, usual, mark = sys.argv[1:]
def missing(names):
    for name in names.split():
        try:
            importlib.import_module(name)
        except Exception as error:
            yield "%s (%s: %s)" % (name, type(error).__name__, error)
print()
print(mark, "version", "%d.%d.%d" % sys.version_info[:3])
for kind, names in ("needed", needed), ("usual", usual):
    for name in missing(names):
        print(mark, kind, name)
print(mark, "end")
"""
MARK = "taskgate-python"
VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){2}", re.ASCII)


@check(after="shell")
def python_available(sandbox: Sandbox) -> Iterator[str]:
    """Python runs, is of the version that the manifest asks for, and imports its standard library.

    Install it (`RUN apt-get update && apt-get install -y python3`), or correct `python` in the manifest.
    """
    wanted = sandbox.task.python
    if wanted is None:
        yield Skip("the manifest asks for no Python")
        return
    sandbox.facts["python_failed"] = True
    program = interpreter(sandbox)
    if program.path is None:
        program = _plain(sandbox, program)
        if program.path and not program.trouble:
            yield Warn(f"there is no python3 on PATH, only {program.path}")
    if program.path is None or program.trouble:
        yield _missing(sandbox, program)
        return
    reasons = list(_judged(sandbox, program.path, wanted))
    sandbox.facts["python_failed"] = any(not isinstance(reason, Warn) for reason in reasons)
    yield from reasons


def _plain(sandbox: Sandbox, program: Found) -> Found:
    """A `python` that is no python3 will do where the run doesn't start the agent by that name."""
    agent = sandbox.task.agent
    if sandbox.task.python_path or (sandbox.runtime and sandbox.runtime.python):
        return program
    plain = find(sandbox, "python", "/")
    if agent and agent.module and not agent.run and plain.path:
        return Found(None, f"; {plain.path} is there, but a run starts the agent's module by python3")
    return plain if plain.path else Found(None, "")


def _missing(sandbox: Sandbox, program: Found) -> str:
    named = sandbox.task.python_path or (sandbox.runtime and sandbox.runtime.python)
    if program.path or named:
        return f"{program.path or named} {program.trouble}"
    return f"there is no python3 on PATH{program.trouble}"


def _judged(sandbox: Sandbox, python: str, wanted: str) -> Iterator[str]:
    """What is wrong with an interpreter that is there."""
    probe = sandbox.as_agent('p=$1; shift; "$p" -c "$@"', python, PROBE, NEEDED, USUAL, MARK, where="/")
    answers: dict[str, list[str]] = {}
    for line in probe.lines:
        if line.startswith(MARK + " "):
            _, kind, *rest = line.split(" ", 2)
            answers.setdefault(kind, []).append(rest[0] if rest else "")
    version = answers.get("version", [""])[0]
    if probe.code or "end" not in answers or not VERSION.fullmatch(version):
        last = [line.strip() for line in probe.lines if line.strip()][-1:] or ["it printed nothing"]
        reason = of_file(sandbox, python) or f"does not run (status {probe.code}): {last[0][:200]}"
        yield f"{python} is there but {reason}"
    elif not sandbox.task.python_path and not SpecifierSet(wanted).contains(version, prereleases=True):
        yield f"{python} is version {version}, the manifest asks for {wanted}"
    elif "needed" in answers:
        yield f"{python} (Python {version}) can't import its own standard library: {'; '.join(answers['needed'])}"
    elif "usual" in answers:
        yield Warn(f"{python} (Python {version}) lacks modules that most have: {'; '.join(answers['usual'])}")
