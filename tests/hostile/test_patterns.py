"""Texts that patterns are slow on, as an image, an agent or a registry may write them: longer than any that is kept.

In a process of its own: a pattern can't be interrupted.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from taskgate.harness.base.errors import StartFailed, Unresolved
from taskgate.harness.engine import classification

TEXTS = {
    "sh": "classification.of_start('/bin/sh ' * 200_000)",
    "exec": "classification.of_start('exec /bin/sh ' * 200_000)",
    "resolve": "classification.of_pull('failed to resolve reference ' * 50_000, 'x')",
    "spaces-in-a-header": "http1.Head(b'GET / HTTP/1.1\\r\\na: b' + b' ' * 1_000_000 + b'c')",
}


@pytest.mark.parametrize("name", TEXTS)
def test_they_take_no_time_to_speak_of(name: str) -> None:
    program = f"from taskgate.harness.engine import classification\nfrom taskgate.harness.sandbox.isolation import http1\n{TEXTS[name]}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown', "shell"),
        ("crun: executable file `/bin/sh` not found in $PATH: No such file or directory", "shell"),
        ("exec /bin/sh: exec format error", "platform"),
        ("exec user process caused:\npermission denied", "shell"),
        ("unable to find user x: no matching entries in passwd file", "user"),
    ],
)
def test_the_end_of_what_was_said_counts(said: str, cause: str) -> None:
    for before in ("", "x" * 200_000 + "\n", "/bin/sh " * 10_000):
        found = classification.of_start(f"{before}{said}\n")
        assert isinstance(found, StartFailed) and found.cause == cause and len(str(found)) <= classification.START_CHARS


def test_a_long_reference_is_one() -> None:
    said = f'failed to resolve reference "registry.example.com/{"a" * 400}:b": registry.example.com/a:b: not found'
    assert isinstance(classification.of_pull(said, "other.example.com/x:1"), Unresolved)
