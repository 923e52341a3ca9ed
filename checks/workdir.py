from collections.abc import Iterator

from taskgate.checks import Warn, _unwritable, check
from taskgate.checks._writing import try_write
from taskgate.harness.sandbox.sandbox import Sandbox

# Where others keep files as well.
SHARED = '[ -d "$1" ] && { [ "$1" -ef / ] || [ -k "$1" ]; }'
SHELLS = ("sh", "bash", "dash", "ash", "zsh", "env", "tini", "dumb-init")


@check(after="shell")
def workdir(sandbox: Sandbox) -> Iterator[str]:
    """The directory where the agent starts exists; the agent's user can enter it and write it and all that is in it.

    Create it and give it to the agent's user (`RUN chown -R USER DIR`), or correct `workdir` or `repo_path`.
    """
    path = sandbox.start_dir
    if sandbox.sh('[ -e "$1" ] || [ -L "$1" ]', path).code:
        yield f"{path} does not exist{_made_by_entrypoint(sandbox, path)}"
    elif sandbox.sh('[ -d "$1" ]', path).code:
        yield f"{path} is not a directory"
    elif sandbox.sh('cd "$1"', path).code:
        yield f"{path} can't be entered by the agent's user"
    elif try_write(sandbox, path).code:
        yield f"{path} can't be written by the agent's user"
    else:
        yield from _contents(sandbox, path)


def _contents(sandbox: Sandbox, path: str) -> Iterator[str]:
    """The work directory's files and the repository's, wherever that is."""
    repository = sandbox.task.repo_path
    roots = [f"{root}/" for root in dict.fromkeys((path, repository)) if root and _owned(sandbox, root)]
    if repository and sandbox.sh('[ -h "$1/.git" ] && [ -d "$1/.git" ]', repository).ok:
        roots.append(f"{repository}/.git/")
    if not roots:
        return
    unwritable = _unwritable.below(sandbox, *roots)
    if unwritable.count:
        yield f"in {path}, {unwritable}"
    elif not unwritable.whole:
        yield Warn(f"{path} has more files than could be looked at in {_unwritable.SECONDS:g} s")


def _owned(sandbox: Sandbox, root: str) -> bool:
    return sandbox.sh(SHARED, root).code != 0


def _made_by_entrypoint(sandbox: Sandbox, path: str) -> str:
    """What an ENTRYPOINT has to do with a directory that is missing."""
    argv = sandbox.image.entrypoint
    name = " ".join(argv)[:200]
    for word in argv:
        script = sandbox.head(word) if word.startswith("/") else b""
        if path in word or (script.startswith(b"#!") and path.encode() in script):
            return f": only the image's ENTRYPOINT ({name}) makes it, which is not run; create it in the Dockerfile"
    if argv and argv[0].rpartition("/")[2] not in SHELLS:
        return f" (the image's ENTRYPOINT, {name}, is not run: what it makes belongs into the Dockerfile)"
    return ""
