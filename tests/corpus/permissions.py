"""What the agent can't write although the top folder is its own; and what looks so and is fine."""

from __future__ import annotations

from tests.corpus.case import Case, run

OWN = "RUN chown -R agent:agent /testbed\n"
USER = "\nUSER agent"


def broken(name: str, command: str, reason: str) -> Case:
    return Case(name, "broken", "workdir", f"{OWN}{run(command)}{USER}", reason=reason)


CASES = [
    broken("git-of-root", "chown -R root .git", ".git"),
    broken("git-objects-of-root", "chown -R root .git/objects", ".git/objects"),
    broken("git-logs-of-root", "chown -R root .git/logs", ".git/logs/HEAD"),
    broken("folder-of-root", "chown -R root src", "2 files can't be written"),
    broken("file-of-root", "chown root file1", "1 file can't be written by the agent's user (uid 1000): /testbed/file1"),
    broken("many-files-of-root", "mkdir many && cd many && touch $(seq 2000)", "2,001 files"),
    broken("folder-unsearchable", "mkdir locked && chmod 766 locked", "/testbed/locked"),
    broken("folder-of-other-user", "mkdir data && chown 4321 data", "/testbed/data"),
    broken("hidden-file-of-root", "touch .env && chmod 644 .env", "/testbed/.env"),
    Case("git-config-unreadable", "broken", "git_repo", f"{OWN}{run('chown root .git/config', 'chmod 600 .git/config')}{USER}"),
    Case("work-elsewhere-of-root", "broken", "workdir", f"{OWN}{run('chown root src')}\nRUN mkdir /w && chown agent /w{USER}",
         {"workdir": "/w"}, reason="/testbed/src"),
    # As git leaves them after a commit of root's: it replaces these files and never writes in them.
    Case("git-files-of-root", lines=f"{OWN}{run('chown root .git/index .git/HEAD .git/config .git/refs/heads/main')}{USER}"),
    Case("read-only-files-of-its-own", lines=f"{OWN}{run('chmod a-w file1 src/main.py')}{USER}"),
    Case("byte-code-of-root", lines=f"{OWN}{run('mkdir src/__pycache__ x.egg-info', 'touch src/__pycache__/m.pyc')}{USER}"),
    Case("hooks-of-root", lines=f"{OWN}{run('chown -R root .git/hooks .git/info')}{USER}"),
    Case("group-may-write", lines=f"{run('chgrp -R agent .', 'chmod -R g+rwX .')}{USER}", warns="git_repo"),
    Case("arbitrary-uid", lines=f"{run('chmod -R a+rwX .')}\nRUN mkdir -m 777 /h\nENV HOME=/h\nUSER 77777", warns="git_repo"),
    Case("links-to-what-is-roots", lines=f"{OWN}{run('ln -s /etc/passwd passwd', 'ln -s /usr usr', 'ln -s nowhere gone')}{USER}"),
    Case("shared-work-directory", lines="RUN touch /tmp/of-root\nUSER agent", task={"repo_path": None, "workdir": "/tmp"}),
    Case("root-writes-all", lines=run("chown -R 4321 src", "chmod -R a-w src"), silent="workdir"),
    Case("files-of-root-without-find", "broken", "workdir", f"{OWN}{run('chown root src/main.py')}\nRUN rm /usr/bin/find{USER}",
         reason="src/main.py"),
    Case("own-files-without-find", lines=f"{OWN}RUN rm /usr/bin/find{USER}"),
    Case("workdir-of-entrypoint", "broken", "workdir", "RUN rm -rf /testbed && printf '#!/bin/sh\\nmkdir -p /testbed && exec \"$@\"\\n'"
         " >/entry.sh && chmod 755 /entry.sh\nENTRYPOINT [\"/entry.sh\"]", reason="only the image's ENTRYPOINT (/entry.sh)"),
    Case("workdir-of-inline-entrypoint", "broken", "workdir", "RUN rm -rf /testbed\n"
         "ENTRYPOINT [\"/bin/sh\", \"-c\", \"git clone /x /testbed; exec sleep 9\"]", reason="ENTRYPOINT"),
]  # fmt: skip
