"""What only a login shell has, and what only setuid programs may."""

from __future__ import annotations

from tests.corpus.case import Case
from tests.corpus.programs import RUN

PROFILE = "RUN mkdir -p /opt/tools && mv /usr/bin/python3.11 /opt/tools/python3 && rm -f /usr/bin/python3*" \
    " && echo 'PATH=/opt/tools:$PATH; conda() { :; }' >/etc/profile.d/tools.sh"  # fmt: skip
LOGIN = ("bash", "-lc")
# A copy of `id` that root owns and that changes its user.
SETUID = "RUN cp /usr/bin/id /usr/local/bin/root-id && chmod u+s /usr/local/bin/root-id && chown -R agent /testbed\nUSER agent"
AS_ROOT = {"agent": {"command": ["/bin/sh", "-c", '[ "$(root-id -u)" = 0 ]']}}
SUDO = "RUN printf '#!/bin/sh\\necho \"sudo: The no new privileges flag is set, which prevents sudo from running as root.\"\\nexit 1\\n'" \
    " >/usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo"  # fmt: skip

CASES = [
    Case("login-shell", lines=PROFILE, task={"shell": LOGIN, "require": {"commands": ["conda", "python3"], "modules": ["json"]}}),
    Case("login-shell-unused", "broken", "python_available", PROFILE),
    Case("login-shell-program", lines=PROFILE.replace("python3 &&", "agent_run && ln -s agent_run /opt/tools/python3 &&"),
         task={**RUN, "shell": LOGIN}),
    Case("login-shell-lacks-it", "broken", "required", PROFILE, {"shell": LOGIN, "require": {"commands": ["mamba"]}}, reason="mamba"),
    Case("plain-shell", task={"shell": ("sh", "-c")}),
    Case("shell-of-the-task-missing", "broken", "shell", task={"shell": ("fish", "-c")}, reason="fish"),
    Case("privileges-none", "broken", "agent_start", SETUID, AS_ROOT),
    Case("privileges-default", lines=SETUID, task={**AS_ROOT, "privileges": "default"}),
    Case("sudo-refused", "broken", "agent_start", SUDO, {"agent": {"command": ["sudo", "true"]}}, reason="`privileges` is no-new"),
]  # fmt: skip
