from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.checks._git import git
from taskgate.harness.sandbox.sandbox import Sandbox

# ORIG_HEAD and its like keep a commit reachable, yet --all leaves them out.
# What a loader complains of is no answer.
BEYOND = """
exec 2>/dev/null
for name in ORIG_HEAD FETCH_HEAD MERGE_HEAD CHERRY_PICK_HEAD; do
  id=$(git rev-parse --quiet --verify "$name^{commit}") && set -- "$@" "$id"
done
git rev-list --count --all --reflog "$@" ^HEAD &&
git log -n 1 --format='%h %cs %s' --all --reflog "$@" ^HEAD --
"""


@check(after="git_repo", advisory=True)
def git_future(sandbox: Sandbox) -> Iterator[str]:
    """No commit beyond HEAD can be reached through branches, tags, remotes, stashes or the reflog.

    Delete other refs and the reflog, then `git gc --prune=now`; or clone with only the base commit.
    """
    if sandbox.task.repo_path is None:
        yield Skip("the manifest names no repository")
        return
    if git(sandbox, "git rev-parse --quiet --verify 'HEAD^{commit}'").code:
        # Only where git_repo is off.
        yield Skip("there is no repository")
        return
    result = git(sandbox, BEYOND)
    if result.code:
        yield Warn("the commits beyond HEAD can't be listed")
    elif result.lines and result.lines[0].strip() != "0":
        newest = result.lines[1] if len(result.lines) > 1 else "?"
        yield Warn(f"{result.lines[0]} commits beyond HEAD are reachable, the newest: {newest}")
