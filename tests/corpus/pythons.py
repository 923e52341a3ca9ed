"""Which Python, and what follows where there is none."""

from __future__ import annotations

from tests.corpus.case import Case
from tests.corpus.programs import script

GONE = "RUN rm -f /usr/bin/python3*"
# Perl is in every Debian.
PERL = (
    "#!/usr/bin/perl", "use IO::Socket::INET;",
    "my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die;",
    "while (my $c = $s->accept) { print $c \"HTTP/1.0 200 OK\\r\\n\\r\\n\"; close $c; }",
)  # fmt: skip
SERVER = {"server": ["agent_serve"]}

CASES = [
    Case("python-null-module", "broken", "agent_start", GONE, {"python": None}, reason="no Python can import agent"),
    Case("python-null-unused", lines=GONE, task={"python": None, "agent": None}),
    Case("python-downgraded", "broken", "agent_start", GONE, {"checks": {"python_available": "warn"}}, reason="no Python"),
    Case("python-off", "broken", "agent_start", GONE, {"checks": {"python_available": "off"}}, reason="no Python"),
    Case("python-plain-only", "broken", "python_available", "RUN ln -s python3.11 /usr/bin/python && rm /usr/bin/python3",
         reason="/usr/bin/python is there"),
    Case("python-plain-will-do", lines="RUN ln -s python3.11 /usr/bin/python && rm /usr/bin/python3",
         task={"agent": {"command": ["python", "-c", "import agent"]}}, warns="python_available"),
    Case("python-by-path", lines="RUN mkdir -p /opt/py && mv /usr/bin/python3.11 /opt/py/python && rm -f /usr/bin/python3*",
         task={"python": "/opt/py/python"}, silent="agent_start"),
    Case("python-path-gone", "broken", "python_available", task={"python": "/opt/py/python"}, reason="/opt/py/python is not there"),
    Case("python-link-dangles", "broken", "python_available", "RUN ln -sf /root/.local/share/uv/python3 /usr/bin/python3",
         reason="which is missing"),
    Case("python-below-root", "broken", "python_available", "RUN mkdir -p /root/py && mv /usr/bin/python3.11 /root/py/ && chmod 700 /root"
         " && ln -sf /root/py/python3.11 /usr/bin/python3 && chown -R agent /testbed\nUSER agent", reason="below /root"),
    Case("python-on-closed-path", "broken", "python_available", "RUN mkdir -p /root/bin && mv /usr/bin/python3.11 /root/bin/python3"
         " && rm /usr/bin/python3 && chmod 700 /root && chown -R agent /testbed\nENV PATH=/root/bin:/usr/bin:/bin\nUSER agent",
         reason="below /root"),
    Case("python-library-gone", "broken", "python_available",
         "RUN LC_ALL=C sed -i 's/libz\\.so\\.1/libq.so.1/' $(readlink -f /usr/bin/python3)", reason="libq.so.1"),
    Case("server-without-python", lines=GONE + "\n" + script(*PERL, path="/usr/local/bin/agent_serve"),
         task={"python": None, "agent": SERVER}, warns="agent_start"),
    Case("server-dies-without-python", "broken", "agent_start",
         GONE + "\n" + script("#!/bin/sh", "echo no port; exit 3", path="/usr/local/bin/agent_serve"),
         {"python": None, "agent": SERVER}, reason="ended with status 3 before it was ready: no port"),
    Case("server-gone-without-python", "broken", "agent_start", GONE, {"python": None, "agent": SERVER}, reason="not on PATH"),
]  # fmt: skip
