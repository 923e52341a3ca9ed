from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.checks._git import git
from taskgate.harness.sandbox.sandbox import Sandbox

# How many commits HEAD is ahead of $1 and behind it.
DISTANCE = """
exec 2>/dev/null
base=$(git rev-parse --quiet --verify "$1^{commit}") || exit 3
git rev-list --count "$base..HEAD" && git rev-list --count "HEAD..$base"
"""


@check(after="git_repo")
def git_commit(sandbox: Sandbox) -> Iterator[str]:
    """HEAD is the manifest's base_commit, or up to `setup_commits` commits ahead of it; `checkout` succeeds.

    `RUN git checkout BASE_COMMIT` in the Dockerfile, or correct `base_commit` or `setup_commits` in the manifest.
    """
    wanted, allowed = sandbox.task.base_commit, sandbox.task.setup_commits
    sandbox.start()
    if sandbox.preparation_problem:
        yield sandbox.preparation_problem
        return
    if wanted is None or sandbox.task.repo_path is None:
        yield Skip("the manifest names no base_commit")
        return
    head = git(sandbox, "git rev-parse --verify 'HEAD^{commit}' 2>/dev/null")
    if head.code:
        # Only where git_repo is off.
        yield Skip("there is no repository")
        return
    commit = head.out.strip()[:40]
    if commit.startswith(wanted.lower()):
        return
    counted = git(sandbox, DISTANCE, wanted)
    if counted.code or len(counted.lines) < 2:
        yield f"HEAD is {commit}, not {wanted}, which the repository does not have"
        return
    ahead, behind = (line.strip() for line in counted.lines[:2])
    if behind == "0" and len(ahead) < 6 and int(ahead) <= allowed:
        return
    yield f"HEAD is {commit}, {_distance(ahead, behind)} the base_commit {wanted}{_advice(ahead, behind, allowed)}"


def _distance(ahead: str, behind: str) -> str:
    parts = [(ahead, "ahead of"), (behind, "behind")]
    return " and ".join(
        f"{count} {'commit' if count == '1' else 'commits'} {way}" for count, way in parts if count != "0"
    )


def _advice(ahead: str, behind: str, allowed: int) -> str:
    if behind != "0":
        return ""
    if allowed:
        return f"; `setup_commits` allows {allowed}"
    return f": write `setup_commits: {ahead}` where the image's maker put them on top"
