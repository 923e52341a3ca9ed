from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.checks._git import git
from taskgate.harness.sandbox.sandbox import Sandbox

LOCKS = """
for name in index HEAD config packed-refs shallow; do
  path=$(git rev-parse --git-path "$name.lock" 2>/dev/null) && [ -e "$path" ] && echo "$path"
done; exit 0
"""

# A whole object is answered by its type, one that is missing or damaged by its id; neither type begins with
# three hexadecimal digits. No grep: an image may lack it.
OBJECTS = """
command "$tg_git" rev-list --objects --no-walk HEAD >/dev/null || exit 1
line='
'
said=$line$(command "$tg_git" rev-list --objects --no-walk HEAD | git cat-file --batch-check='%(objecttype) %(rest)')
case $said in
  *"$line"[0-9a-f][0-9a-f][0-9a-f]*) echo "damaged or missing objects"; exit 1 ;;
esac
"""


@check(after=("git_available", "workdir"))
def git_repo(sandbox: Sandbox) -> Iterator[str]:
    """The repository path is the top of a valid git repository on which status, diff and log work.

    Clone the repository anew in the Dockerfile; remove stale `*.lock` files from `.git`.
    """
    path = sandbox.task.repo_path
    if path is None:
        yield Skip("the manifest names no repository")
        return
    if sandbox.sh('[ -d "$1" ]', path).code:
        yield f"{path} does not exist or is not a directory"
        return
    if sandbox.sh('[ -e "$1/.git" ]', path).code:
        above = git(sandbox, 'command "$tg_git" rev-parse --show-toplevel 2>/dev/null', trusted=False)
        inside = f" (it lies inside the one at {above.out.strip()})" if above.ok and above.out.strip() else ""
        yield f"{path} is not a git repository{inside}"
        return
    plain = git(sandbox, 'command "$tg_git" rev-parse --show-toplevel', trusted=False)
    foreign = "dubious ownership" in plain.out or "unsafe repository" in plain.out
    if plain.code and foreign:
        yield Warn(f"{path} belongs to another user: outside of `taskgate run`, git needs safe.directory={path}")
    for reason, script in (
        (f"{path}/.git is not a valid repository", "git rev-parse --git-dir"),
        ("HEAD does not resolve to a commit", "git rev-parse --verify 'HEAD^{commit}'"),
        ("the index can't be read", "git ls-files --stage >/dev/null"),
    ):
        if git(sandbox, script).code:
            yield reason
            return
    stale = git(sandbox, LOCKS)
    if stale.out.strip():
        yield f"a stale lock is in the way: {', '.join(stale.lines)}"
        return
    if git(sandbox, OBJECTS).code:
        yield "objects of HEAD are missing or damaged"
        return
    for reason, script in (
        ("git status fails", "git status --porcelain >/dev/null"),
        ("git diff fails", "git diff --no-ext-diff --no-textconv HEAD >/dev/null"),
        ("git log fails", "git log -n 1 --format=%H HEAD --"),
    ):
        if git(sandbox, script).code:
            yield reason
            return
    if plain.code and not foreign:
        # So it is where the image's environment names another repository, or the configuration says that this is bare.
        yield f"git does not find it as an agent would call it: {' '.join(plain.out.split())[-200:]}"
