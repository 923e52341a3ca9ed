"""Small published projects with a bug each that their own tests catch, as tasks in the formats of four families.

Sources come from the package index as sdists, once a machine. The images hold Debian's Python and pytest.
"""

from __future__ import annotations

import difflib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from examples import images

PACKAGES = "git,patch,python3,python3-pytest"
REPOSITORY = """
RUN git config --system user.name demo && git config --system user.email demo@example.invalid \\
 && git config --system safe.directory '*' \\
 && mkdir /testbed && tar -xzf /source.tar.gz --strip-components=1 -C /testbed && cd /testbed \\
 && python3 /break.py && git init -q -b main . && git add -A && git commit -qm Base
WORKDIR /testbed
"""
BREAK = """
import pathlib
path = pathlib.Path({file!r})
text = path.read_text()
assert text.count({right!r}) == 1
path.write_text(text.replace({right!r}, {wrong!r}))
"""
EVAL = """#!/bin/bash
set -uxo pipefail
cd /testbed
: '>>>>> Start Test Output'
{test}
: '>>>>> End Test Output'
git checkout -q HEAD -- {tests}
"""


@dataclass(frozen=True)
class Bug:
    """`right` stands in `file` once in the published source; in the task it is `wrong`. `tests`: pytest's arguments."""

    name: str
    source: str
    file: str
    right: str
    wrong: str
    tests: str

    @property
    def sdist(self) -> bytes:
        return _sdist(self.source)

    @property
    def patch(self) -> str:
        """The reference solution."""
        fixed, broken = self._texts()
        return self._diff(broken, fixed)

    @property
    def breakage(self) -> str:
        """The patch that makes the bug."""
        return self._diff(*self._texts())

    def _texts(self) -> tuple[str, str]:
        with tarfile.open(fileobj=io.BytesIO(self.sdist)) as tar:
            top = tar.getnames()[0].partition("/")[0]
            file = tar.extractfile(f"{top}/{self.file}")
            assert file is not None
            fixed = file.read().decode()
        return fixed, fixed.replace(self.right, self.wrong)

    def _diff(self, old: str, new: str) -> str:
        names = f"a/{self.file}", f"b/{self.file}"
        return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), *names))

    @property
    def test(self) -> str:
        return f"python3 -m pytest -rA -p no:cacheprovider {self.tests}"


BUGS = [
    Bug(
        "ordinals", "inflection==0.5.1", "inflection/__init__.py", "number % 100 in (11, 12, 13)",
        "number % 100 in (11, 12)", "test_inflection.py",
    ),
    Bug(
        "plurals", "inflection==0.5.1", "inflection/__init__.py", "_irregular('person', 'people')",
        "_irregular('persona', 'people')", "test_inflection.py",
    ),
    Bug(
        "tail", "more-itertools==10.2.0", "more_itertools/recipes.py", "max(0, len(iterable) - n)",
        "len(iterable) - n", "tests/test_recipes.py",
    ),
    Bug(
        "assoc", "toolz==0.12.0", "toolz/dicttoolz.py", "    d2.update(d)\n    d2[key] = value\n",
        "    d2[key] = value\n    d2.update(d)\n", "toolz/tests/test_dicttoolz.py",
    ),
    Bug(
        "partitions", "toolz==0.12.0", "toolz/itertoolz.py", "yield prev[:lo]",
        "yield prev[:hi - 1]", "toolz/tests/test_itertoolz.py",
    ),
]  # fmt: skip


@cache
def _sdist(requirement: str) -> bytes:
    """A published source archive. The test is skipped where there is no package index."""
    name, _, version = requirement.partition("==")
    folder = Path(tempfile.gettempdir()) / "taskgate-sdists"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-{version}.tar.gz"
    if not file.exists():
        argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", requirement]
        done = subprocess.run([*argv, "-d", str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{requirement} can't be downloaded: {done.stderr.strip()[-200:]}")
    return file.read_bytes()


def build(client: Any, bug: Bug) -> str:
    """The image of a bug's repository."""
    script = BREAK.format(file=bug.file, right=bug.right, wrong=bug.wrong)
    base = images.base(client, packages=PACKAGES)
    head = f"FROM {base}\nCOPY source.tar.gz break.py /\n{REPOSITORY}"
    return images.build(
        client, f"taskgate-test/bug-{bug.name}:1", head, {"source.tar.gz": bug.sdist, "break.py": script.encode()}
    )


def manifest(folder: Path, built: dict[str, str]) -> Path:
    """A manifest of our own, read from JUnit files."""
    rows = []
    for bug in BUGS:
        (folder / f"{bug.name}.patch").write_text(bug.patch)
        test = f"{bug.test} --junitxml=/tmp/junit.xml"
        proof = {"solution": f"{bug.name}.patch", "test": test, "junit": "/tmp/junit.xml", "timeout": 300}
        rows.append({"id": bug.name, "image": built[bug.name], "repo_path": "/testbed", "proof": proof})
    file = folder / "manifest.json"
    file.write_text(json.dumps({"version": 1, "defaults": {"pull": "never"}, "tasks": rows}))
    return file


def harbor(folder: Path, built: dict[str, str]) -> Path:
    for bug in BUGS:
        task = folder / bug.name
        (task / "solution").mkdir(parents=True)
        (task / "tests").mkdir()
        (task / "task.toml").write_text(
            f"[agent]\ntimeout_sec = 300.0\n[verifier]\ntimeout_sec = 300.0\n"
            f"[environment]\ndocker_image = {built[bug.name]!r}\n"
        )
        (task / "solution/fix.patch").write_text(bug.patch)
        (task / "solution/solve.sh").write_text("#!/bin/bash\ncd /testbed && git apply /solution/fix.patch\n")
        reward = "if [ $? -eq 0 ]; then echo 1; else echo 0; fi >/logs/verifier/reward.txt"
        (task / "tests/test.sh").write_text(f"#!/bin/bash\ncd /testbed\n{bug.test}\n{reward}\n")
    return folder


def terminal_bench(folder: Path, built: dict[str, str]) -> Path:
    for bug in BUGS:
        task = folder / bug.name
        task.mkdir(parents=True)
        (task / "task.yaml").write_text("instruction: Fix it.\nparser_name: pytest\nmax_test_timeout_sec: 300.0\n")
        (task / "docker-compose.yaml").write_text(f"services: {{client: {{image: '{built[bug.name]}'}}}}\n")
        (task / "solution.sh").write_text(f"cd /testbed\ngit apply - <<'PATCH'\n{bug.patch}PATCH\n")
        (task / "run-tests.sh").write_text(f"cd /testbed\n{bug.test}\n")
    return folder


def swebench(folder: Path, built: dict[str, str], tests: dict[str, tuple[list[str], list[str]]]) -> Path:
    """`tests`: FAIL_TO_PASS and PASS_TO_PASS of each bug."""
    lines = []
    for bug in BUGS:
        fail_to_pass, pass_to_pass = tests[bug.name]
        row = {
            "instance_id": bug.name,
            "repo": f"published/{bug.source.partition('==')[0]}",
            "version": bug.source.partition("==")[2],
            "image": built[bug.name],
            "patch": bug.patch,
            "FAIL_TO_PASS": fail_to_pass,
            "PASS_TO_PASS": pass_to_pass,
            "log_parser": "parse_log_pytest_v2",
            "eval_type": "pass_and_fail",
            "eval_script": EVAL.format(test=bug.test, tests=bug.tests),
        }
        lines.append(json.dumps(row) + "\n")
    file = folder / "rows.jsonl"
    file.write_text("".join(lines))
    return file
