import secrets
from collections.abc import Iterator

from taskgate.checks import Skip, Warn, check
from taskgate.checks._git import git, last_words, program
from taskgate.checks._git_scripts import ABSENT, BORROWED, FINAL, LOCKS, OBJECTS, PROMISED, TOP
from taskgate.harness.base.redaction import redacted
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after=("git_available", "workdir"))
def git_repo(sandbox: Sandbox) -> Iterator[str]:
    """The repository path is the top of a valid git repository: status, diff and log work, and a patch can be made.

    Clone the repository anew in the Dockerfile, whole; remove stale `*.lock` files; commit in nested repositories.
    """
    if sandbox.task.repo_path is None:
        yield Skip("the manifest names no repository")
        return
    if reason := _unfit(sandbox, sandbox.task.repo_path):
        yield reason
        return
    plain = git(sandbox, TOP, trusted=False)
    foreign = "dubious ownership" in plain.out or "unsafe repository" in plain.out
    if plain.code and foreign:
        path = sandbox.task.repo_path
        yield Warn(f"{path} belongs to another user: outside of `taskgate run`, git needs safe.directory={path}")
    for step in (_broken_head, _locked, _without_objects, _unworkable):
        reasons = list(step(sandbox))
        yield from reasons
        if any(not isinstance(reason, Warn) for reason in reasons):
            return
    if plain.code == 9:
        yield f"its work tree is {plain.out.strip()[-200:]}, by core.worktree or GIT_WORK_TREE"
    elif plain.code and not foreign:
        # So it is where the image's environment names another repository, or the configuration says that this is bare.
        yield f"git does not find it as an agent would call it{last_words(plain)}"


def _unfit(sandbox: Sandbox, path: str) -> str | None:
    """Why nothing at `path` can be a repository."""
    if sandbox.sh('[ -d "$1" ]', path).code:
        return f"{path} does not exist or is not a directory"
    if sandbox.sh('[ -e "$1/.git" ]', path).code == 0:
        named = sandbox.sh('[ -f "$1/.git" ] && cd "$1" && IFS= read -r line <.git && printf %s "$line"', path)
        place = named.out.removeprefix("gitdir: ")
        if named.ok and place != named.out and sandbox.sh('cd "$1" && [ -d "$2" ]', path, place).code:
            return f"{path}/.git names {place[:300]}, which is missing: a worktree or submodule without its repository"
        return None
    if sandbox.sh('[ -h "$1/.git" ]', path).ok:
        return f"{path}/.git is a link to nothing"
    if sandbox.sh('cd "$1" && [ -f HEAD ] && [ -d objects ] && [ -d refs ]', path).ok:
        return f"{path} is a bare repository: it has no work tree"
    above = git(sandbox, "git rev-parse --show-toplevel 2>/dev/null", trusted=False)
    inside = f" (it lies inside the one at {above.out.strip()})" if above.ok and above.out.strip() else ""
    return f"{path} is not a git repository{inside}"


def _broken_head(sandbox: Sandbox) -> Iterator[str]:
    valid = git(sandbox, "git rev-parse --git-dir")
    if valid.code:
        version = sandbox.facts.get("git_version", "git")
        by = f" to {version} ({program(sandbox).path})"
        yield f"{sandbox.task.repo_path}/.git is not a valid repository{by}{last_words(valid)}"
        return
    head = git(sandbox, "git rev-parse --verify 'HEAD^{commit}'")
    if head.code:
        branch = git(sandbox, "git symbolic-ref --quiet --short HEAD")
        unborn = branch.ok and git(sandbox, 'git rev-parse --verify --quiet "refs/heads/$1"', branch.out.strip()).code
        named = f": it is the branch {branch.out.strip()[:100]}, which has no commit" if unborn else last_words(head)
        yield f"HEAD does not resolve to a commit{_borrowed(sandbox) or named}"
        return
    index = git(sandbox, "git ls-files --stage >/dev/null")
    if index.code:
        yield f"the index can't be read{last_words(index)}"


def _locked(sandbox: Sandbox) -> Iterator[str]:
    stale = git(sandbox, LOCKS)
    if stale.out.strip():
        yield f"a stale lock is in the way: {', '.join(stale.lines)}"


def _without_objects(sandbox: Sandbox) -> Iterator[str]:
    """Are the objects of HEAD there? Of a partial clone, those of the files that are checked out."""
    borrowed = _borrowed(sandbox)
    promised = git(sandbox, PROMISED)
    if promised.code:
        whole = git(sandbox, OBJECTS)
        if whole.code:
            yield f"objects of HEAD are missing or damaged{borrowed or last_words(whole)}"
        elif borrowed:
            yield Warn(f"objects of earlier commits may be missing{borrowed}")
        return
    absent = git(sandbox, ABSENT, secrets.token_hex(8))
    if "missing" in absent.out or absent.code not in (0, 3):
        yield f"objects of checked-out files are missing, in a partial clone{borrowed}"
        return
    urls = ", ".join(redacted(line.partition(" ")[2]) for line in promised.lines[:3]) or "no remote any more"
    what = "files outside of the sparse checkout, and those" if absent.code == 3 else "those"
    yield Warn(f"a partial clone: {what} of earlier commits are fetched over the network when needed, from {urls}")


def _borrowed(sandbox: Sandbox) -> str:
    """Where objects were borrowed from that are gone, as the end of a reason."""
    gone = [line for line in git(sandbox, BORROWED).lines if line.startswith("/")]
    return (
        f": they are borrowed from {', '.join(gone[:3])} (.git/objects/info/alternates), which is gone" if gone else ""
    )


def _unworkable(sandbox: Sandbox) -> Iterator[str]:
    """What agents do, and what a harness does at the end."""
    for reason, script in (
        ("git status fails", "git status --porcelain >/dev/null"),
        ("git diff fails", "git diff --no-ext-diff --no-textconv HEAD >/dev/null"),
        ("git log fails", "git log -n 1 --format=%H HEAD -- >/dev/null"),
    ):
        result = git(sandbox, script)
        if result.code:
            yield f"{reason}{last_words(result)}"
            return
    final = git(sandbox, FINAL, secrets.token_hex(8))
    if final.code not in (0, 77):
        yield f"`git add -A` and a diff fail, so the agent's patch would be lost{last_words(final)}"
