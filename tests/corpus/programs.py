"""An agent's own program: what is there and can't start, and what looks odd and can."""

from __future__ import annotations

import shlex
from typing import Any

from tests.corpus.case import Case, run

PROGRAM = "/usr/local/bin/agent_run"
RUN: dict[str, Any] = {"agent": {"run": ["agent_run"]}}


def script(*lines: str, path: str = PROGRAM) -> str:
    """A RUN line that makes an executable of these lines."""
    return f"RUN printf '%s\\n' {shlex.join(lines)} >{path} && chmod 755 {path}"


def patched(old: str, new: str) -> str:
    """A RUN line that makes the program of a true one, with some bytes replaced."""
    return f"RUN LC_ALL=C sed 's#{old}#{new}#g' /bin/true >{PROGRAM} && chmod 755 {PROGRAM}"


def broken(name: str, lines: str, reason: str, **task: Any) -> Case:
    return Case(name, "broken", "agent_start", lines, {**RUN, **task}, reason=reason)


ENTRY_POINT = (
    "import re",
    "import sys",
    "from {module} import {name}",
    'if __name__ == "__main__":',
    "    sys.exit({name}())",
)


def entry_point(module: str, name: str, first: str = "#!/usr/bin/python3") -> str:
    return script(first, *(line.format(module=module, name=name) for line in ENTRY_POINT))


CASES = [
    broken("run-missing", "", "not on PATH"),
    broken("run-shebang-gone", script("#!/opt/venv/bin/python", "print(1)"), "/opt/venv/bin/python, which is missing"),
    broken("run-env-absent", script("#!/usr/bin/env nodejs", "1"), "the interpreter nodejs (by env), which is not on PATH"),
    broken("run-env-gone", script("#!/opt/env python3", "1"), "/opt/env, which is missing"),
    broken("run-env-unsplit", script("#!/usr/bin/env python3 -u", "1"), "write `env -S python3 -u`"),
    broken("run-windows-lines", script("#!/usr/bin/python3\r", "print(1)\r"), "Windows line endings"),
    broken("run-no-shebang", script("exit 0"), "no first line that names its interpreter"),
    broken("run-byte-order-mark", f"RUN printf '\\357\\273\\277#!/bin/sh\\nexit 0\\n' >{PROGRAM} && chmod 755 {PROGRAM}", "byte order mark"),
    broken("run-empty", f"RUN : >{PROGRAM} && chmod 755 {PROGRAM}", "is empty"),
    broken("run-not-executable", f"RUN printf '#!/bin/sh\\n' >{PROGRAM}", "is not executable"),
    broken("run-link-dangles", f"RUN ln -s /opt/agent/bin/agent_run {PROGRAM}", "/opt/agent/bin/agent_run, which is missing"),
    broken("run-is-folder", "RUN mkdir /opt/agent", "is a directory", agent={"run": ["/opt/agent"]}),
    broken("run-chain-gone", script("#!/usr/local/bin/launcher", "1") + "\n" + script("#!/opt/gone", "1", path="/usr/local/bin/launcher"),
           "/opt/gone, which is missing"),
    broken("run-venv-dangles", "RUN mkdir -p /opt/venv/bin && ln -s /usr/bin/python3.99 /opt/venv/bin/python\n"
           + script("#!/opt/venv/bin/python", "1"), "a link to /usr/bin/python3.99, which is missing"),
    broken("run-below-root", "RUN mkdir -p /root/bin && cp /bin/true /root/bin/agent_run && chmod 700 /root && chown -R agent /testbed"
           f" && ln -s /root/bin/agent_run {PROGRAM}\nUSER agent", "lies below /root"),
    broken("run-script-unreadable", script("#!/bin/sh", "exit 0") + f"\nRUN chmod 711 {PROGRAM} && chown -R agent /testbed\nUSER agent",
           "can't be read"),
    broken("run-other-architecture", f"RUN cp /bin/true {PROGRAM} && printf '\\363\\000' | dd of={PROGRAM} bs=1 seek=18 conv=notrunc",
           "is a program for riscv64"),
    broken("run-loader-gone", patched(r"/ld-linux\([a-z0-9-]*\)\.so\.[12]", r"/ld-musl-\1.so.9"), "the dynamic loader"),
    broken("run-library-gone", patched(r"libc\.so\.6", "libq.so.6"), "the library libq.so.6, which is missing"),
    broken("run-library-below", "RUN mkdir /opt/lib\n" + patched(r"libc\.so\.6", "libq.so.6"), "the library libq.so.6",
           env={"LD_LIBRARY_PATH": "/opt/lib"}),
    broken("run-newer-library", patched(r"GLIBC_2\.34", "GLIBC_2.99"), "GLIBC_2.99"),
    broken("run-package-gone", entry_point("agent_cli", "main"), "No module named"),
    broken("run-function-gone", entry_point("agent", "main"), "main"),
    broken("run-uv-python-gone", script("#!/bin/sh", "'''exec' /opt/venv/bin/python \"$0\" \"$@\"", "' '''"),
           "starts /opt/venv/bin/python, which is missing"),
    broken("probe-fails", script("#!/bin/sh", "echo no config; exit 3"), "no config",
           agent={"run": ["agent_run"], "probe": ["agent_run", "--version"]}),
    Case("probe-works", lines=script("#!/bin/sh", 'test "$1" = --version'),
         task={"agent": {"run": ["agent_run"], "probe": ["agent_run", "--version"]}}),
    Case("run-program", lines=f"RUN cp /bin/true {PROGRAM}", task=RUN, silent="agent_start"),
    Case("run-unreadable-program", lines=f"RUN cp /bin/true {PROGRAM} && chmod 711 {PROGRAM} && chown -R agent /testbed\nUSER agent", task=RUN),
    Case("run-link-of-links", lines=f"RUN cp /bin/true /opt/a && ln -s /opt/a /opt/b && ln -s ../../../opt/b {PROGRAM}", task=RUN),
    Case("run-env-split", lines=script("#!/usr/bin/env -S FOO=1 python3 -u", "print(1)"), task=RUN),
    Case("run-spaced-shebang", lines=script("#! /bin/sh -e", "exit 0"), task=RUN),
    Case("run-no-shebang-by-shell", lines=script("exit 0"), task={**RUN, "shell": ("bash", "-c")}),
    Case("run-odd-library-path", lines=f"RUN cp /bin/true {PROGRAM}\nENV LD_LIBRARY_PATH=/none:/usr/lib", task=RUN),
    Case("run-entry-point", lines="RUN echo 'main = print' >>/usr/lib/python3/dist-packages/agent.py\n" + entry_point("agent", "main"), task=RUN),
    Case("run-past-shadow", lines="RUN printf 'import logging, json\\nlogging.getLogger()\\nmain = print\\n'"
         " >/usr/lib/python3/dist-packages/agent.py\n" + entry_point("agent", "main")
         + "\n" + run("echo 'raise SystemError' >logging.py", "echo 'raise SystemError' >json.py"),
         task={"agent": {"module": "agent", "run": ["agent_run"]}}, silent="agent_start"),
    Case("module-shadowed", "broken", "agent_start", "RUN printf 'import logging\\nlogging.getLogger()\\n'"
         " >/usr/lib/python3/dist-packages/agent.py\n" + run("echo 'x = 1' >logging.py"), reason="/testbed/logging.py stands in"),
    Case("module-hidden", lines=run("cp /usr/lib/python3/dist-packages/agent.py ."), warns="agent_start"),
    Case("module-only-a-folder", "broken", "agent_start", run("mkdir agent", "rm /usr/lib/python3/dist-packages/agent.py"),
         reason="only the folder"),
    Case("module-in-workdir", lines=run("mv /usr/lib/python3/dist-packages/agent.py ."), silent="agent_start"),
    Case("package-without-main", lines="RUN cd /usr/lib/python3/dist-packages && rm agent.py && mkdir agent && touch agent/__init__.py",
         silent="agent_start"),
    Case("command-shim-gone", "broken", "required", "RUN ln -s /opt/cargo/bin/cargo /usr/local/bin/cargo",
         {"require": {"commands": ["cargo"]}}, reason="/opt/cargo/bin/cargo, which is missing"),
]  # fmt: skip
