"""Shared by the checks of git; declares none."""

import shlex

from taskgate.checks._program import Found, find
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.sandbox.shell import Result

# The repository is the image's: nothing that its configuration names is started, nothing is asked or written. But for
# its filters: they belong to what status compares, and one that fails fails an agent's git as well.
# An explicit GIT_DIR is how git trusts a repository of another owner in every version that it has.
QUIET = """
export LC_ALL=C GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0 GIT_PAGER= GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=none
repo=$1 tg_git=$2; shift 2
cd "$repo" || exit 125
git() {
  command "$tg_git" -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.untrackedCache=false \
    -c core.splitIndex=false -c gc.auto=0 -c maintenance.auto=false -c log.showSignature=false "$@"
}
"""
TRUSTED = 'export GIT_DIR="$repo/.git" GIT_WORK_TREE="$repo"\n'


def git(sandbox: Sandbox, script: str, *args: str, trusted: bool = True) -> Result:
    """Run a script with git set up safely, in the repository; `args` are `$1…`. It may take long while it reads."""
    assert sandbox.task.repo_path is not None
    name = program(sandbox).path or "git"
    text = script.strip().replace('command "$tg_git"', "git")
    shown = f"cd {shlex.quote(sandbox.task.repo_path)} && {text}"
    return sandbox.sh(
        QUIET + (TRUSTED if trusted else "") + script, sandbox.task.repo_path, name, *args, shown=shown, patient=True
    )


def program(sandbox: Sandbox) -> Found:
    """The git that the agent finds first on its PATH, where the runtime's is last."""
    return find(sandbox, "git", "/")


def last_words(result: Result) -> str:
    """What git printed last, as the end of a reason."""
    lines = [line.strip() for line in result.lines if line.strip() and not line.startswith("hint: ")]
    return f": {' '.join(lines[-2:])[-300:]}" if lines else ""
