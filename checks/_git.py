"""Shared by the checks of git; declares none."""

import shlex

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
    -c log.showSignature=false "$@"
}
"""
TRUSTED = 'export GIT_DIR="$repo/.git" GIT_WORK_TREE="$repo"\n'


def git(sandbox: Sandbox, script: str, *args: str, trusted: bool = True) -> Result:
    """Run a script with git set up safely, in the repository; `args` are `$1…`."""
    assert sandbox.task.repo_path is not None
    told = script.strip().replace('command "$tg_git"', program(sandbox))
    shown = f"cd {shlex.quote(sandbox.task.repo_path)} && {told}"
    return sandbox.sh(
        QUIET + (TRUSTED if trusted else "") + script, sandbox.task.repo_path, program(sandbox), *args, shown=shown
    )


def program(sandbox: Sandbox) -> str:
    """The git that the agent will use: the runtime's, else the image's."""
    return (sandbox.runtime.git if sandbox.runtime else None) or "git"
