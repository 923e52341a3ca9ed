from collections.abc import Iterator

from taskgate.checks import _git, check
from taskgate.checks._program import of_file
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def git_available(sandbox: Sandbox) -> Iterator[str]:
    """git is installed and runs.

    Install it (`RUN apt-get update && apt-get install -y git`, `RUN apk add git`).
    """
    found = _git.program(sandbox)
    if found.path is None or found.trouble:
        yield f"{found.path} {found.trouble}" if found.path else "there is no git on PATH"
        return
    version = sandbox.as_agent('"$1" --version', found.path, where="/")
    if version.code:
        last = (version.lines or ["it printed nothing"])[-1][:200]
        yield f"{found.path} is there but {of_file(sandbox, found.path) or f'does not run: {last}'}"
    else:
        sandbox.facts["git_version"] = version.out.strip()
