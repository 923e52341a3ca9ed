import re
from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from taskgate.checks import Skip, Warn, check
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
    sandbox.facts["python"] = None
    brought = sandbox.runtime.python if sandbox.runtime else None
    found = sandbox.sh('command -v "$1"', brought) if brought else sandbox.sh("command -v python3 || command -v python")
    python = found.lines[-1] if found.ok and found.lines else None
    if wanted is None:
        sandbox.facts["python"] = python
        yield Skip("the manifest asks for no Python")
        return
    if python is None:
        yield f"the runtime's {brought} is not there" if brought else "there is no python3 on PATH"
        return
    probe = sandbox.sh('p=$1; shift; exec "$p" -c "$@"', python, PROBE, NEEDED, USUAL, MARK)
    said: dict[str, list[str]] = {}
    for line in probe.lines:
        if line.startswith(MARK + " "):
            _, kind, *rest = line.split(" ", 2)
            said.setdefault(kind, []).append(rest[0] if rest else "")
    if probe.code or "end" not in said or not VERSION.fullmatch(said.get("version", [""])[0]):
        yield f"{python} is there but does not run"
    elif not SpecifierSet(wanted).contains(said["version"][0], prereleases=True):
        yield f"{python} is version {said['version'][0]}, the manifest asks for {wanted}"
    elif "needed" in said:
        yield f"{python} can't import its own standard library: {'; '.join(said['needed'])}"
    else:
        sandbox.facts["python"] = python
        if "usual" in said:
            yield Warn(f"{python} lacks modules that most have: {'; '.join(said['usual'])}")
