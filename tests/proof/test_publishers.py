"""Multi-SWE-bench and SWE-smith: a published project's tests, in images laid out as the publishers' own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.proof.run import Control, Run
from taskgate.harness.proof.run_store import runs_by_task
from tests.proof import projects
from tests.proof.projects import Bug

pytestmark = pytest.mark.slow
MAIN = "import sys; from taskgate.harness.cli.main import main; sys.exit(main())"
SPLIT = Bug(
    "split", "click==8.1.7", "src/click/parser.py", "        out.append(lex.token)\n", "        pass\n", "tests"
)
CASES = Bug(
    "cases", "parse==1.20.1", "parse.py", "        if case_sensitive:\n", "        if not case_sensitive:\n", "tests"
)
ADDED = """--- /dev/null
+++ b/tests/test_added.py
@@ -0,0 +1,5 @@
+from click.parser import split_arg_string
+
+
+def test_unbalanced():
+    assert split_arg_string("cli 'my file") == ["cli", "my file"]
"""
CONDA = b"conda() { :; }\n"
# Debian calls it by another name.
PYTEST = "test -e /usr/bin/pytest || ln -s /usr/bin/pytest-3 /usr/bin/pytest"


def prove(source: Path, out: Path) -> dict[str, list[Run]]:
    argv = [sys.executable, "-c", MAIN, "prove", str(source), f"--out={out}", "--repeat=1", "-j1"]
    done = subprocess.run([*argv, f"--skip-list={out}/skip.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 solvable" in done.stdout, done.stdout + done.stderr
    return runs_by_task(out)


def test_multi_swe_bench(client: Any, tmp_path: Path) -> None:
    """A row as the publisher makes it: from the logs of the image's three scripts."""
    pytest.importorskip("multi_swe_bench.harness.repos")
    from multi_swe_bench.harness.dataset import Dataset
    from multi_swe_bench.harness.image import Config
    from multi_swe_bench.harness.instance import Instance
    from multi_swe_bench.harness.pull_request import Base, PullRequest
    from multi_swe_bench.harness.report import generate_report

    pull = PullRequest(
        org="pallets", repo="click", number=2000, state="closed", title="", body="", base=Base("", "", "0" * 40),
        resolved_issues=[], fix_patch=SPLIT.patch, test_patch=ADDED, number_interval="click_2800_to_1400",
    )  # fmt: skip
    instance = Instance.create(pull, Config(need_clone=False, global_env=None, clear_env=False))
    image = multi_image(client, instance)
    logs = {
        script: printed(client, image, f"bash /home/{script}") for script in ("run.sh", "test-run.sh", "fix-run.sh")
    }
    report = generate_report(instance, *logs.values())
    assert report.valid, report.error_msg
    row = json.loads(Dataset.build(pull, report).json()) | {
        "number_interval": pull.number_interval, "instance_id": "pallets__click-2000", "image": image,
    }  # fmt: skip
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    gold, nop = sorted(prove(rows, tmp_path / "out")["pallets__click-2000"], key=lambda run: run.control)
    assert (gold.control, nop.control) == (Control.GOLD, Control.NOP)
    for run, result in ((gold, report.fix_patch_result), (nop, report.test_patch_result)):
        assert {name for name, outcome in run.tests.items() if outcome == "passed"} == result.passed_tests
        assert {name for name, outcome in run.tests.items() if outcome == "failed"} == result.failed_tests


def multi_image(client: Any, instance: Any) -> str:
    """The publisher's scripts beside a repository with the bug."""
    files = {file.name: file.content.encode() for file in instance.dependency().files()}
    script = projects.BREAK.format(file=SPLIT.file, right=SPLIT.right, wrong=SPLIT.wrong)
    repository = projects.REPOSITORY.replace("/testbed", "/home/click")
    base = images.base(client, packages=projects.PACKAGES)
    head = (
        f"FROM {base}\nCOPY source.tar.gz break.py /\n{repository}\nENV PYTHONPATH=/home/click/src\n"
        f"RUN {PYTEST}\n"
        f"COPY {' '.join(files)} /home/\n"
    )
    contents = {"source.tar.gz": SPLIT.sdist, "break.py": script.encode(), **files}
    return images.build(client, "taskgate-test/multi-click:1", head, contents)


def printed(client: Any, image: str, command: str | list[str]) -> str:
    container = client.containers.create(image, command, entrypoint="")
    try:
        container.start()
        container.wait(timeout=600)
        return str(container.logs().decode("utf-8", "replace"))
    finally:
        container.remove(force=True)


def smith_image(client: Any, branch: str) -> str:
    base = images.base(client, packages=projects.PACKAGES)
    repository = projects.REPOSITORY.replace("python3 /break.py && ", "")
    head = (
        f"FROM {base}\nCOPY source.tar.gz bug.diff activate /\n{repository}\nENV PYTHONPATH=/testbed\n"
        f"RUN mkdir -p /opt/miniconda3/bin && mv /activate /opt/miniconda3/bin/activate && {PYTEST}\n"
        f"RUN git checkout -q -b {branch} && git apply /bug.diff && git commit -qam Bug"
        " && git rm -q tests/test_parsetype.py && git commit -qm Tests && git checkout -q main\n"
    )
    files = {"source.tar.gz": CASES.sdist, "bug.diff": CASES.breakage.encode(), "activate": CONDA}
    return images.build(client, "taskgate-test/smith-parse:1", head, files)


def test_swesmith(client: Any, tmp_path: Path) -> None:
    """A branch with the bug, and a commit on top of it that removes the tests which catch it."""
    pytest.importorskip("swesmith.profiles")
    from swesmith.profiles import registry

    name = "r1chardj0n3s__parse.30da9e4f.bug__1"
    image = smith_image(client, name)
    profile = registry.get_from_inst({"instance_id": name})
    test = f"cd /testbed; git checkout -q {name}~1; {{}} {profile.test_cmd}"
    broken = profile.log_parser(printed(client, image, ["bash", "-c", test.format("")]))
    fixed = profile.log_parser(printed(client, image, ["bash", "-c", test.format("git apply -R /bug.diff;")]))
    row = {
        "instance_id": name,
        "repo": "swesmith/r1chardj0n3s__parse.30da9e4f",
        "image_name": image,
        "patch": CASES.breakage,
        "FAIL_TO_PASS": sorted(test for test in fixed if fixed[test] == "PASSED" and broken.get(test) == "FAILED"),
        "PASS_TO_PASS": sorted(test for test in fixed if fixed[test] == broken.get(test) == "PASSED"),
    }
    assert row["FAIL_TO_PASS"] and row["PASS_TO_PASS"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    for run in prove(rows, tmp_path / "out")[name]:
        known = fixed if run.control is Control.GOLD else broken
        assert run.tests == {test: "passed" if known[test] == "PASSED" else "failed" for test in run.tests}
        assert len(run.tests) == len(row["FAIL_TO_PASS"]) + len(row["PASS_TO_PASS"])
