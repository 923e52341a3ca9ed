"""Repositories: patches that can't be made, clones without all objects, stores that are gone, commits on top."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Case, run


def broken(name: str, lines: str, reason: str, **task: Any) -> Case:
    return Case(name, "broken", "git_repo", lines, task, reason=reason)


def cloned(options: str, *then: str) -> str:
    """A RUN line that puts a clone of the repository in its place."""
    return run(
        "git config uploadpack.allowFilter true", "cd /", f"git clone -q {options} file:///testbed /s", *then,
        "rm -rf /testbed", "mv /s /testbed", "cd /testbed", "git remote set-url origin https://user:secret@git.invalid/x.git",
    )  # fmt: skip


def slow(status: str) -> str:
    """A git whose `status` does something else first."""
    text = f'#!/bin/sh\\ncase "$*" in *status*) {status} ;; esac\\nexec /usr/bin/git "$@"\\n'
    return f"RUN printf '{text}' >/usr/local/bin/git && chmod 755 /usr/local/bin/git"


ID = "id=$(git rev-parse HEAD:src/main.py)"
LOSE = "rm -f .git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)"
BORROWED = run("cp -r /testbed /kept", "cd /", "rm -rf /testbed", "git clone -q --shared /kept /testbed")
ON_TOP = "git commit -q --allow-empty -m SWE-bench"

CASES = [
    broken("nested-without-commit", run("git init -q nested", "touch nested/x"), "nested"),
    broken("submodule-store-gone", run("git init -q sub", "git -C sub commit -q --allow-empty -m s", "git add sub 2>/dev/null",
           "git commit -qm sub", "rm -rf sub/.git", "echo 'gitdir: ../.git/modules/sub' >sub/.git"), "sub"),
    broken("filter-gone", run("echo '*.bin filter=lfs' >.gitattributes", "git config filter.lfs.clean 'git-lfs clean -- %f'",
           "git config filter.lfs.required true", "echo data >x.bin"), "git-lfs"),
    broken("attributes-refused", run("git config core.autocrlf input", "git config core.safecrlf true", "printf 'a\\r\\nb\\n' >mixed"), "CRLF"),
    broken("alternates-gone", BORROWED + " && rm -rf /kept", "borrowed from /kept/.git/objects"),
    broken("bare", run("cd /", "git clone -q --bare /testbed /s", "rm -rf /testbed", "mv /s /testbed"), "bare repository"),
    broken("worktree-elsewhere", run("mkdir /elsewhere", "git config core.worktree /elsewhere"), "/elsewhere"),
    broken("branch-unborn", run("git checkout -q --orphan next"), "next, which has no commit"),
    broken("git-file-dangles", run("mv .git /store", "ln -s /gone .git"), "a link to nothing"),
    broken("submodule-without-superproject", run("rm -rf .git", "echo 'gitdir: ../.git/modules/testbed' >.git"), "../.git/modules/testbed"),
    broken("git-dir-in-environment", "ENV GIT_DIR=/nowhere", "as an agent would call it"),
    broken("newer-format", run("git config core.repositoryformatversion 1", "git config extensions.refstorage reftable"), "refstorage"),
    broken("older-index", run("printf 'DIRC\\000\\000\\000\\011' | dd of=.git/index conv=notrunc bs=1 2>/dev/null"), "index"),
    broken("partial-and-file-gone", cloned("--filter=blob:none") + "\n" + run("mv .git/objects/pack /p",
           "for p in /p/*.pack; do git unpack-objects -q <$p; done", "rm -rf /p", ID, LOSE), "partial clone"),
    Case("git-hangs", "broken", "git_repo", slow("sleep 999"), {"timeout": 4}, reason="made no progress"),
    Case("git-works-long", lines=slow("i=0; while [ $i -lt 1500000 ]; do i=$((i+1)); done"), task={"timeout": 1.5}),
    Case("git-works-without-end", lines=slow("while :; do :; done"), task={"timeout": 1}, warns="git_repo"),
    Case("partial-clone", lines=cloned("--filter=blob:none"), warns="git_repo"),
    Case("partial-sparse-clone", lines=cloned("--filter=blob:none --sparse"), warns="git_repo"),
    Case("treeless-clone", lines=cloned("--filter=tree:0"), warns="git_repo"),
    Case("sparse-clone", lines=cloned("--sparse"), silent="git_repo"),
    Case("alternates-there", lines=BORROWED, silent="git_repo"),
    Case("single-branch-clone", lines=cloned("--depth 2 --single-branch"), silent="git_repo"),
    Case("pipe-in-tree", lines=run("mkfifo pipe"), silent="git_repo"),
    Case("nested-with-commit", lines=run("git init -q nested", "git -C nested commit -q --allow-empty -m n")),
    Case("submodule-not-checked-out", lines=run("git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub", "git commit -qm sub", "mkdir sub")),
    Case("split-index", lines=run("git config core.splitIndex true", "git update-index --split-index"), silent="git_repo"),
    Case("staged-and-deleted", lines=run("echo x >new", "git add new", "rm file1", "git rm -q --cached file2")),
    Case("setup-commit", lines=run(ON_TOP), task={"base_commit": "HEAD~1", "setup_commits": 1}, silent="git_commit"),
    Case("setup-commits-left-over", task={"base_commit": "HEAD", "setup_commits": 3}, silent="git_commit"),
    Case("setup-commit-unknown", "broken", "git_commit", run(ON_TOP), {"base_commit": "HEAD~1"}, reason="1 commit ahead of"),
    Case("setup-commits-too-many", "broken", "git_commit", run(ON_TOP, ON_TOP), {"base_commit": "HEAD~2", "setup_commits": 1},
         reason="2 commits ahead of"),
    Case("commit-behind", "broken", "git_commit", run("git checkout -q HEAD~1"), {"base_commit": "main", "setup_commits": 1},
         reason="1 commit behind"),
    Case("commit-elsewhere", "broken", "git_commit", run("git checkout -q --detach HEAD~1", ON_TOP), {"base_commit": "main", "setup_commits": 5},
         reason="1 commit ahead of and 1 commit behind"),
]  # fmt: skip
