"""Hostile images, made from the corpus's base, with the verdict and the check that each must get.

None of them is asked to be nice: whatever it says or does, it is judged, within its deadline, alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.hostile import programs

AGENT = "/usr/lib/python3/dist-packages/agent.py"
SMALL = {"memory": "128m", "pids": 128}


@dataclass(frozen=True, eq=False)
class Hostile:
    """`files` are copied to `/`; `lines` of a Dockerfile do the rest. `task`: fields of the manifest."""

    name: str
    verdict: str
    check: str | None = None
    lines: str = ""
    files: dict[str, str] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def _program(name: str, verdict: str, check: str | None, path: str, text: str, **more: Any) -> Hostile:
    """Something of the image replaced by a program."""
    return Hostile(name, verdict, check, f"RUN chmod 755 /evil && ln -sf /evil {path}", {"evil": text}, **more)


def _odd(name: str, check: str | None, command: str, verdict: str = "broken", **more: Any) -> Hostile:
    return Hostile(name, verdict, check, f"RUN {command}", **more)


def _user(name: str, user: str) -> Hostile:
    return Hostile(name, "broken", "user", task={"user": user})


def _env(name: str, verdict: str, check: str | None, **env: str) -> Hostile:
    return Hostile(name, verdict, check, "ENV " + " ".join(f"{key}={json.dumps(value)}" for key, value in env.items()))


SHELLS = [
    _program("shell-says-yes", "broken", "home", "/bin/sh", programs.YES),
    _program("shell-answers-for-ever", "broken", "shell", "/bin/sh", programs.ANSWERS_FOR_EVER),
    _program("shell-a-line-for-ever", "broken", "shell", "/bin/sh", programs.A_LINE_FOR_EVER),
    _program("shell-nonsense", "broken", "shell", "/bin/sh", programs.NONSENSE, reason="answered nothing"),
    # As if somebody had killed it: nobody can tell the difference, and nothing is held against the image.
    _program("shell-looks-killed", "infra", None, "/bin/sh", programs.KILLED, reason="ended from outside"),
]
GREEDY = [
    _program("forks", "broken", "git_available", "/usr/bin/git", programs.FORKS, task={"limits": SMALL}),
    _program("hoards", "broken", "git_available", "/usr/bin/git", programs.HOARDS, task={"limits": SMALL}),
    _program("floods", "broken", "git_available", "/usr/bin/git", programs.FLOODS, reason="MiB", task={"timeout": 30}),
    _program("fakes", "broken", "agent_start", AGENT, programs.FAKES),
    _program("escapes", "healthy", None, AGENT, programs.ESCAPES),
]
PIPES = [
    _odd("pipe-passwd", "container_start", "rm /etc/passwd && mkfifo /etc/passwd", reason="/etc/passwd is a pipe"),
    _odd("pipe-group", "container_start", "rm /etc/group && mkfifo /etc/group", reason="/etc/group is a pipe"),
    _odd("pipe-passwd-linked", "container_start", "mkfifo /p && ln -s p /q && ln -sf ../q /etc/passwd"),
    _odd("device-passwd", "container_start", "rm /etc/passwd && mknod /etc/passwd c 1 5"),
    _odd("pipe-shell", "shell", "mkfifo /p && ln -sf /p /bin/sh"),
    _odd("pipe-workdir", "workdir", "rm -rf /testbed && mkfifo /testbed"),
    _odd("pipe-tmp", "tmp", "rm -rf /tmp && mkfifo /tmp"),
    _odd("pipe-home", "home", "rm -rf /root && mkfifo /root"),
    _odd("pipe-head", "git_repo", "cd /testbed/.git && rm HEAD && mkfifo HEAD"),
    _odd("pipe-index", "git_repo", "cd /testbed/.git && rm index && mkfifo index"),
    _odd("pipe-config", "git_repo", "cd /testbed/.git && rm config && mkfifo config"),
    _odd("pipe-included", "git_repo", "cd /testbed && mkfifo /p && git config include.path /p"),
    _odd("zeros-head", "git_repo", "cd /testbed/.git && ln -sf /dev/zero HEAD", task={"limits": SMALL}),
    _odd("zeros-config", "git_repo", "cd /testbed/.git && ln -sf /dev/zero config", task={"limits": SMALL}),
]
LOOPS = [
    _odd("loop-workdir", "workdir", "rm -rf /testbed && ln -s testbed /testbed"),
    _odd("loop-git", "git_repo", "rm -rf /testbed/.git && ln -s .git /testbed/.git"),
    _odd("loop-tmp", "tmp", "rm -rf /tmp && ln -s tmp /tmp"),
    _odd("loop-home", "home", "rm -rf /root && ln -s root /root"),
    _odd("loop-tree", None, "cd /testbed && ln -s . a && ln -s .. b && ln -s c c", "healthy"),
]
ENVIRONMENTS = [
    _env("env-shell", "healthy", None, IFS="x$/01", PS4="$(touch /x)", ENV="/evil", BASH_ENV="/evil", SHELLOPTS="xtrace"),
    _env("env-nonce", "healthy", None, tg_nonce="0", tg_id="9", tg_code="1", tg_script="exit 9", tg_git="/evil"),
    _env("env-git-quiet", "healthy", None, GIT_PAGER="/evil", GIT_EDITOR="/evil", GIT_ASKPASS="/evil",
         GIT_EXTERNAL_DIFF="/evil", GIT_SSH_COMMAND="/evil", GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="core.fsmonitor",
         GIT_CONFIG_VALUE_0="/evil"),
    _env("env-git-elsewhere", "broken", "git_repo", GIT_DIR="/nowhere"),
    _env("env-preload", "healthy", None, LD_PRELOAD="/no/such/library.so"),
    _env("env-python", "healthy", None, PYTHONSTARTUP="/evil", PYTHONINSPECT="1", PYTHONBREAKPOINT="os.abort"),
    _env("env-python-home", "broken", "python_available", PYTHONHOME="/nowhere"),
    _env("env-path-empty", "broken", "git_available", PATH=""),
]  # fmt: skip
OPTIONS = [
    _user("user-option", "-rf"),
    _user("user-privileged", "--privileged"),
    _user("user-command", "$(touch /x)"),
    _user("user-path", "../../root"),
    Hostile("-rf", "healthy"),
    Hostile("--privileged", "healthy"),
    Hostile("--rootdir=/", "healthy"),
    Hostile("tаskgate", "healthy"),
    Hostile("a]::b[c", "healthy"),
    Hostile("%s%n{}${HOME}`id`", "healthy"),
]
IMAGES = SHELLS + GREEDY + PIPES + LOOPS + ENVIRONMENTS + OPTIONS
