from collections.abc import Iterator

from taskgate.checks import _git, check
from taskgate.checks._program import of_file
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def git_available(sandbox: Sandbox) -> Iterator[str]:
    """git is installed and runs.

    Install it (`RUN apt-get update && apt-get install -y git`, `RUN apk add git`).
    """
    git = _git.program(sandbox)
    if git.path is None or git.trouble:
        yield f"{git.path} {git.trouble}" if git.path else "there is no git on PATH"
        return
    version = sandbox.as_agent('"$1" --version', git.path, where="/")
    if version.code:
        last = (version.lines or ["it printed nothing"])[-1][:200]
        yield f"{git.path} is there but {of_file(sandbox, git.path) or f'does not run: {last}'}"
    else:
        sandbox.facts["git_version"] = version.out.strip()
