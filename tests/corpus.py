"""The labelled corpus: images made for one trait each, with the verdict and the check that they must get.

All are built from one base: Debian with git and Python, a repository of three commits at /testbed, a user
`agent` (uid 1000), and a module `agent` that imports. What a case's `lines` do to it is its trait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BASE = """
RUN useradd -m -u 1000 agent \\
 && echo 'NAME = "agent"' >/usr/lib/python3/dist-packages/agent.py \\
 && git config --system user.name corpus && git config --system user.email corpus@example.invalid \\
 && git init -q -b main /testbed && cd /testbed \\
 && export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' \\
 && for n in 1 2 3; do echo $n >file$n && git add . && git commit -qm "commit $n"; done \\
 && mkdir src && echo 'print(1)' >src/main.py && git add . && git commit -qm src
"""
HEAD = "$(git -C /testbed rev-parse HEAD)"


@dataclass(frozen=True)
class Case:
    """`verdict` and `check` are the labels; `warns` names a check that must warn."""

    name: str
    verdict: str = "healthy"
    check: str | None = None
    lines: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    warns: str | None = None
    reason: str = ""


def _run(command: str) -> str:
    return f"RUN cd /testbed && {command}"


AGENT = "agent"
HEALTHY = [
    Case("plain"),
    Case("detached-head", lines=_run("git checkout -q --detach && git branch -q -D main")),
    Case("dirty-tree", lines=_run("echo changed >file1 && echo new >untracked && rm file2")),
    Case("shallow-clone", lines=_run("cd / && git clone -q --depth 1 file:///testbed /s && rm -rf /testbed && mv /s /testbed"
         " && cd /testbed && git remote remove origin")),
    Case("packed-refs", lines=_run("git pack-refs --all && git gc -q --prune=now")),
    Case("worktree-git-file", lines=_run("cd / && git clone -q --bare /testbed /store && rm -rf /testbed"
         " && git -C /store worktree add -q -b work /testbed && git -C /store remote remove origin"), warns=None),
    Case("blocking-entrypoint", lines='ENTRYPOINT ["python3", "-c", "import time; time.sleep(9999)"]'),
    Case("application-entrypoint", lines='ENTRYPOINT ["/bin/false"]\nCMD ["--serve"]'),
    Case("entrypoint-missing", lines='ENTRYPOINT ["/no/such/program"]'),
    Case("empty-cmd", lines="CMD []"),
    Case("user-owns-workdir", lines="RUN chown -R agent:agent /testbed\nUSER agent"),
    Case("numeric-user", lines="RUN chown -R 1000 /testbed\nUSER 1000:1000"),
    Case("uid-without-name", lines="RUN chown -R 4321 /testbed && mkdir -m 777 /h\nENV HOME=/h\nUSER 4321", warns="user"),
    Case("manifest-user", lines="RUN chown -R agent /testbed", task={"user": "agent"}),
    Case("other-owner-repo", lines="RUN chown -R 1000 /testbed", warns="git_repo"),
    Case("other-owner-writable", lines="RUN chmod -R a+rwX /testbed\nUSER agent", warns="git_repo"),
    Case("failing-healthcheck", lines="HEALTHCHECK --interval=1s --retries=1 CMD /bin/false"),
    Case("missing-image-workdir", lines="WORKDIR /testbed"),
    Case("noisy-import", lines="RUN echo \"print('x' * 30000000)\" >/usr/lib/python3/dist-packages/agent.py"),
    Case("not-utf8-import", lines="RUN echo 'import os; os.write(1, bytes(range(256)) * 50)' >/usr/lib/python3/dist-packages/agent.py"),
    Case("agent-leaves-daemon", lines="RUN echo 'import subprocess; subprocess.Popen([\"sleep\", \"999\"], start_new_session=True)'"
         " >/usr/lib/python3/dist-packages/agent.py"),
    Case("agent-closes-stdout", lines="RUN echo 'import sys; sys.stdout = None' >/usr/lib/python3/dist-packages/agent.py"),
    Case("agent-command", task={"agent": {"command": ["python3", "-c", "import agent"]}}),
    Case("no-agent", task={"agent": None}),
    Case("base-commit", lines="", task={"base_commit": "HEAD"}),
    Case("odd-file-names", lines=_run("touch 'a b' \"$(printf 'new\\nline')\" -- '-dash' 'x missing' && git add -A && git commit -qm odd")),
    Case("submodule-like-dir", lines=_run("mkdir nested && git init -q nested && cd nested && git commit -q --allow-empty -m n"
         " && cd .. && git add nested 2>/dev/null && git commit -qm nested")),
    Case("bash-as-sh", lines="RUN ln -sf bash /bin/sh"),
    Case("hostile-env", lines='ENV A="$(touch /pwned)" B="\'; exit 9; \'" GIT_DIR_X=1 PS4="x"'),
    Case("requires-met", task={"require": {"commands": ["git"], "files": ["src/main.py", "/etc/passwd"], "modules": ["json"]}}),
    Case("tmp-off", lines="RUN rm -rf /tmp", task={"checks": {"tmp": "off"}}),
    Case("work-elsewhere", lines="RUN mkdir /work", task={"workdir": "/work"}),
    Case("space-in-path", lines="RUN mv /testbed '/test bed'", task={"repo_path": "/test bed"}),
    Case("future-commits-warn", lines=_run("git checkout -q HEAD~1"), warns="git_future"),
    Case("no-repository-wanted", lines="RUN rm -rf /testbed/.git", task={"repo_path": None, "workdir": "/testbed"}),
    Case("git-hooks", lines=_run("printf '#!/bin/sh\\nexit 1\\n' >.git/hooks/post-checkout && chmod +x .git/hooks/*"
         " && git config core.fsmonitor /bin/false && git config diff.external /bin/false")),
    Case("profile-prints-results", lines="RUN echo 'echo 0 ; exit 1' >/etc/profile\nENV ENV=/etc/profile BASH_ENV=/etc/profile"),
]  # fmt: skip

BROKEN = [
    Case("user-missing", "broken", "user", "USER nosuchuser"),
    Case("group-missing", "broken", "user", "USER root:nosuchgroup"),
    Case("manifest-user-missing", "broken", "user", task={"user": "nobody-here"}),
    Case("shell-not-executable", "broken", "shell", "RUN chmod 644 /bin/dash /bin/bash"),
    Case("shell-missing", "broken", "shell", "RUN rm /bin/sh"),
    Case("shell-exits", "broken", "shell", "RUN printf '#!/bin/true\\n' >/bin/x && chmod +x /bin/x && ln -sf x /bin/sh"),
    Case("shell-loop", "broken", "shell", "RUN ln -sf sh /bin/sh"),
    Case("workdir-missing", "broken", "workdir", "RUN rm -rf /testbed"),
    Case("workdir-is-file", "broken", "workdir", "RUN rm -rf /testbed && touch /testbed"),
    Case("workdir-dangling", "broken", "workdir", "RUN rm -rf /testbed && ln -s /nowhere /testbed"),
    Case("workdir-not-writable", "broken", "workdir", "USER agent"),
    Case("workdir-not-enterable", "broken", "workdir", "RUN chmod 700 /testbed\nUSER agent"),
    Case("tmp-missing", "broken", "tmp", "RUN rm -rf /tmp"),
    Case("tmp-not-writable", "broken", "tmp", "RUN chmod 755 /tmp && chown -R agent /testbed\nUSER agent"),
    Case("tmpdir-nonsense", "broken", "tmp", "ENV TMPDIR=/no/such/dir"),
    Case("home-missing", "broken", "home", "RUN chown -R agent /testbed && rm -rf /home/agent\nUSER agent"),
    Case("home-not-writable", "broken", "home", "RUN chown -R agent /testbed && chown root /home/agent && chmod 755 /home/agent\nUSER agent"),
    Case("git-missing", "broken", "git_available", "RUN rm /usr/bin/git"),
    Case("git-not-running", "broken", "git_available", "RUN echo '#!/no/such/program' >/usr/bin/git"),
    Case("not-a-repo", "broken", "git_repo", "RUN rm -rf /testbed/.git"),
    Case("repo-in-parent", "broken", "git_repo", task={"repo_path": "/testbed/src"}, reason="inside"),
    Case("git-dir-empty", "broken", "git_repo", "RUN rm -rf /testbed/.git && mkdir /testbed/.git"),
    Case("head-unborn", "broken", "git_repo", "RUN rm -rf /testbed/.git && git init -q /testbed", reason="HEAD"),
    Case("head-garbage", "broken", "git_repo", "RUN echo rubbish >/testbed/.git/HEAD"),
    Case("head-dangling", "broken", "git_repo", "RUN echo 1234567890123456789012345678901234567890 >/testbed/.git/HEAD"),
    Case("index-corrupt", "broken", "git_repo", "RUN echo rubbish >/testbed/.git/index", reason="index"),
    Case("stale-lock", "broken", "git_repo", "RUN touch /testbed/.git/index.lock", reason="lock"),
    Case("blob-missing", "broken", "git_repo", _run("id=$(git rev-parse HEAD:src/main.py)"
         " && rm -f .git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)"), reason="objects"),
    Case("blob-truncated", "broken", "git_repo", _run("id=$(git rev-parse HEAD:src/main.py) && f=.git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)"
         " && chmod u+w $f && : >$f"), reason="objects"),
    Case("tree-missing", "broken", "git_repo", _run("id=$(git rev-parse HEAD:src) && rm -f .git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)")),
    Case("worktree-store-gone", "broken", "git_repo", "RUN rm -rf /testbed/.git && echo 'gitdir: /gone/worktrees/x' >/testbed/.git"),
    Case("wrong-commit", "broken", "git_commit", task={"base_commit": "1234567890123456789012345678901234567890"}),
    Case("future-branch", "broken", "git_future", _run("git checkout -q --detach HEAD~1"), {"checks": {"git_future": "fail"}}),
    Case("future-tag", "broken", "git_future", _run("git tag next && git reset -q --hard HEAD~1 && git reflog expire --expire=now --all"
         " && rm -f .git/ORIG_HEAD"), {"checks": {"git_future": "fail"}}),
    Case("future-reflog", "broken", "git_future", _run("git reset -q --hard HEAD~1 && rm -f .git/ORIG_HEAD"), {"checks": {"git_future": "fail"}}),
    Case("future-orig-head", "broken", "git_future", _run("git reset -q --hard HEAD~1 && git reflog expire --expire=now --all"),
         {"checks": {"git_future": "fail"}}),
    Case("future-remote", "broken", "git_future", _run("git update-ref refs/remotes/origin/main HEAD && git reset -q --hard HEAD~1"
         " && git reflog expire --expire=now --all && rm -f .git/ORIG_HEAD"), {"checks": {"git_future": "fail"}}),
    Case("future-stash", "broken", "git_future", _run("echo x >file1 && git stash -q"), {"checks": {"git_future": "fail"}}),
    Case("python-missing", "broken", "python_available", "RUN rm -f /usr/bin/python3*"),
    Case("python-not-running", "broken", "python_available", "RUN printf '#!/bin/sh\\nexit 3\\n' >/usr/bin/x && chmod +x /usr/bin/x && ln -sf x /usr/bin/python3"),
    Case("python-fakes-success", "broken", "python_available", "RUN ln -sf true /usr/bin/python3"),
    Case("python-too-old", "broken", "python_available", task={"python": ">=3.99"}, reason="3.99"),
    Case("stdlib-missing", "broken", "python_available", "RUN rm -rf /usr/lib/python3*/asyncio", reason="asyncio"),
    Case("agent-missing", "broken", "agent_start", "RUN rm /usr/lib/python3/dist-packages/agent.py"),
    Case("agent-crashes", "broken", "agent_start", "RUN echo 'import nosuchmodule' >/usr/lib/python3/dist-packages/agent.py", reason="nosuchmodule"),
    Case("agent-exits-quietly", "broken", "agent_start", "RUN echo 'raise SystemExit(0)' >/usr/lib/python3/dist-packages/agent.py", reason="status 0"),
    Case("agent-exits-hard", "broken", "agent_start", "RUN echo 'import os; os._exit(0)' >/usr/lib/python3/dist-packages/agent.py"),
    Case("agent-hangs", "broken", "agent_start", "RUN echo 'import time; time.sleep(9999)' >/usr/lib/python3/dist-packages/agent.py",
         {"timeout": 3}, reason="timed out"),
    Case("agent-floods", "broken", "agent_start", "RUN echo 'while True: print(\"x\" * 9999)' >/usr/lib/python3/dist-packages/agent.py", reason="MiB"),
    Case("agent-fork-bomb", "broken", "agent_start", "RUN printf 'import os\\nwhile True:\\n    os.fork()\\n' >/usr/lib/python3/dist-packages/agent.py",
         {"timeout": 10}),
    Case("agent-kills-all", "broken", "agent_start", "RUN echo 'import os; os.kill(-1, 9); os.kill(1, 10); os._exit(4)' >/usr/lib/python3/dist-packages/agent.py"),
    Case("agent-command-fails", "broken", "agent_start", task={"agent": {"command": ["/bin/sh", "-c", "echo no; exit 7"]}}, reason="status 7"),
    Case("agent-forges-results", "broken", "agent_start", "RUN echo 'print(\"\\\\n0 99 0\\\\n\" * 99); raise SystemExit(1)' >/usr/lib/python3/dist-packages/agent.py"),
    Case("command-missing", "broken", "required", task={"require": {"commands": ["cargo"]}}, reason="cargo"),
    Case("file-missing", "broken", "required", task={"require": {"files": ["src/none.py"]}}, reason="none.py"),
    Case("module-missing", "broken", "required", task={"require": {"modules": ["numpy"]}}, reason="numpy"),
    Case("image-missing", "broken", "image_exists", task={"image": "taskgate-test/no-such-image:1", "pull": "never"}),
]  # fmt: skip

CASES = HEALTHY + BROKEN
