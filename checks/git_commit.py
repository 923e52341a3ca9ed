from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.checks._git import git
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="git_repo")
def git_commit(sandbox: Sandbox) -> Iterator[str]:
    """HEAD is the manifest's base_commit.

    `RUN git checkout BASE_COMMIT` in the Dockerfile, or correct `base_commit` in the manifest.
    """
    wanted = sandbox.task.base_commit
    if wanted is None or sandbox.task.repo_path is None:
        yield Skip("the manifest names no base_commit")
        return
    head = git(sandbox, "git rev-parse --verify 'HEAD^{commit}' 2>/dev/null")
    if head.code:
        # Only where git_repo is off.
        yield Skip("there is no repository")
    elif not head.out.strip().startswith(wanted.lower()):
        yield f"HEAD is {head.out.strip()[:40]}, not {wanted}"
