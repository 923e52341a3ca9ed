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


@dataclass(frozen=True)
class Case:
    """`verdict` and `check` are the labels; `warns` names a check that must warn, `silent` one that must have nothing to
    say. `lines` are a Dockerfile's, on top of the base."""

    name: str
    verdict: str = "healthy"
    check: str | None = None
    lines: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    warns: str | None = None
    reason: str = ""
    silent: str | None = None


def run(*commands: str) -> str:
    """A RUN line in the repository."""
    return f"RUN cd /testbed && {' && '.join(commands)}"
