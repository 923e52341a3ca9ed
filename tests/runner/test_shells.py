"""A run starts agents as they were checked: by a login shell, by an interpreter of their own, with privileges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from examples import images
from tests import running
from tests.running import Run

LOGIN = """
RUN mkdir /opt/tools && mv /usr/local/bin/agent_run /opt/tools/
RUN echo 'PATH=/opt/tools:$PATH' >/etc/profile.d/tools.sh
"""
MODULE = """
COPY working.py /usr/lib/python3/dist-packages/working.py
RUN ln -s /usr/bin/python3 /opt/py
"""
WORKING = """
import runpy, sys
if __name__ == "__main__":
    assert sys.executable == "/opt/py", sys.executable
    runpy.run_path("/usr/local/bin/agent_run", run_name="__main__")
"""
# A copy of `id` that changes its user.
ROOT = """
COPY as_root /usr/local/bin/as_root
RUN chmod 755 /usr/local/bin/as_root && cp /usr/bin/id /usr/local/bin/root-id && chmod u+s /usr/local/bin/root-id
RUN chown -R agent /testbed
USER agent
"""
AS_ROOT = '#!/bin/sh\n[ "$(root-id -u)" = 0 ] || exit 3\nexec agent_run "$1"\n'


def test_agents_start_as_they_were_checked(client: Any, sound: str, tmp_path: Path) -> None:
    base = running.working(client, sound)
    files = {"working.py": WORKING.encode(), "as_root": AS_ROOT.encode()}
    login, module, root = (
        images.build(client, f"taskgate-test/started-{name}:1", f"FROM {base}\n{lines}", files)
        for name, lines in (("login", LOGIN), ("module", MODULE), ("root", ROOT))
    )
    rows: dict[str, dict[str, Any]] = {
        "good-login": {"image": login, "shell": ["bash", "-lc"], "agent": {"run": ["agent_run"]}},
        "good-module": {"image": module, "python": "/opt/py", "agent": {"module": "working"}},
        "good-root": {"image": root, "privileges": "default", "agent": {"run": ["as_root"]}},
        "good-refused": {"image": root, "agent": {"run": ["as_root"]}},
    }
    tasks = "".join(f"- {json.dumps({'id': name, **row})}\n" for name, row in rows.items())
    ran = Run(tmp_path)(f"version: 1\ndefaults: {{repo_path: /testbed, pull: never}}\ntasks:\n{tasks}", "--retries=0")
    assert ran.told() == {name: "failed" if name == "good-refused" else "done" for name in rows}, ran.output
    assert "status 3" in ran.result("good-refused")["reason"]
