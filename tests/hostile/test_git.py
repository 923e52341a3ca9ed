"""A repository that would run programs: what of it the checks let run, and where."""

from __future__ import annotations

from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task

# Each way to run a program leaves a mark of its own name.
CONFIG = {
    "core.fsmonitor": "/evil fsmonitor", "core.pager": "/evil pager", "pager.log": "/evil pager-log",
    "core.sshCommand": "/evil ssh", "core.editor": "/evil editor", "core.askPass": "/evil askpass",
    "core.gitProxy": "/evil proxy", "core.alternateRefsCommand": "/evil alternate", "core.hooksPath": "/hooks",
    "credential.helper": "!/evil credential", "alias.status": "!/evil alias", "alias.log": "!/evil alias",
    "alias.rev-parse": "!/evil alias", "diff.external": "/evil external", "diff.evil.command": "/evil driver",
    "diff.evil.textconv": "/evil textconv", "log.showSignature": "true", "gpg.program": "/evil-gpg",
    "interactive.diffFilter": "/evil interactive", "protocol.allow": "always", "protocol.ext.allow": "always",
    "extensions.partialClone": "origin", "remote.origin.url": "ext::/evil remote", "remote.origin.promisor": "true",
    "remote.origin.uploadpack": "/evil uploadpack", "uploadpack.packObjectsHook": "/evil packs",
    "core.repositoryFormatVersion": "1", "status.submoduleSummary": "true", "trailer.x.command": "/evil trailer",
}  # fmt: skip
EVIL = "#!/bin/sh\n>>/ran-$1\ncat\n"
HOOKS = "post-checkout post-index-change reference-transaction fsmonitor-watchman pre-auto-gc post-merge"
SIGNED = "gpgsig -----BEGIN PGP SIGNATURE-----\\n \\n x\\n -----END PGP SIGNATURE-----"


@pytest.fixture(scope="module")
def image(client: Any, sound: str) -> str:
    config = "\n".join(f"RUN cd /testbed && git config {name} {value!r}" for name, value in CONFIG.items())
    lines = f"""FROM {sound}
COPY evil /evil
RUN chmod 755 /evil && printf '#!/bin/sh\\nexec /evil gpg\\n' >/evil-gpg && chmod 755 /evil-gpg && mkdir /hooks \\
 && for name in {HOOKS}; do printf '#!/bin/sh\\nexec /evil hook\\n' >/hooks/$name; done && chmod 755 /hooks/* \\
 && cd /testbed && echo '* diff=evil' >.gitattributes && git add . && git commit -qm attributes \\
 && git cat-file commit HEAD | sed "/^committer/a {SIGNED}" >/signed \\
 && git update-ref HEAD $(git hash-object -t commit -w /signed) && git tag -d x 2>/dev/null; touch file1
"""
    # A command each would be a layer each.
    settings = " && ".join(line.removeprefix("RUN cd /testbed && ") for line in config.splitlines())
    return images.build(
        client, "taskgate-test/hostile-git:1", f"{lines}RUN cd /testbed && {settings}", {"evil": EVIL.encode()}
    )


def test_nothing_that_a_repository_names_is_run(engine: Engine, image: str) -> None:
    """Hooks, monitors, pagers, drivers, signatures, transports, aliases: no mark is left of any."""
    record, ran = _judged(engine, image)
    assert ran == [] and record.verdict is Verdict.HEALTHY, (record.check, record.reason, record.evidence)


def test_they_would_run_where_git_is_called_plainly(engine: Engine, image: str) -> None:
    """The marks above are missing because of the checks, not because of the image."""
    sandbox = Sandbox(engine, Task("one", image, pull="never"), "tests")
    sandbox.sh("cd /testbed && git status; git log -1; git diff HEAD~1; git gc --auto; git commit --allow-empty -m x")
    marks = set(sandbox.sh("cd / && echo ran-*").out.split())
    sandbox.close()
    assert marks >= {"ran-fsmonitor", "ran-gpg", "ran-driver", "ran-hook"}, marks


def test_a_missing_object_is_fetched_from_nowhere(client: Any, engine: Engine, image: str) -> None:
    lines = "RUN cd /testbed && id=$(git rev-parse HEAD:src/main.py)"
    lines += " && rm -f .git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-)"
    broken = images.build(client, "taskgate-test/hostile-git-missing:1", f"FROM {image}\n{lines}; rm -f /ran-*")
    record, ran = _judged(engine, broken)
    assert ran == [] and (record.verdict, record.check) == (Verdict.BROKEN, "git_repo")


def test_a_filter_runs_in_the_container_until_the_deadline(client: Any, engine: Engine, sound: str) -> None:
    """It is a part of what status compares; what it starts ends with its check."""
    lines = """RUN cd /testbed && printf '#!/bin/sh\\n>>/ran-filter\\nsleep 1000 >/dev/null 2>&1 &\\ncat\\n' >/evil && chmod 755 /evil \\
 && echo '* filter=evil' >.git/info/attributes && git config filter.evil.clean /evil && echo x >>file1"""
    filtered = images.build(client, "taskgate-test/hostile-git-filter:1", f"FROM {sound}\n{lines}")
    record, ran = _judged(engine, filtered)
    assert ran == ["/ran-filter"] and record.verdict is Verdict.HEALTHY, (record.reason, record.evidence)


def _judged(engine: Engine, image: str) -> tuple[Any, list[str]]:
    """The record, and the marks in the container after all checks; no process of the image's is left in it."""
    task = Task("one", image, repo_path="/testbed", pull="never")
    sandbox = Sandbox(engine, task, "tests")
    try:
        record = Judgement(task, sandbox, registry.load()).run()
        processes = sandbox.sh("for p in /proc/[0-9]*; do read -r name <$p/comm && echo $name; done").lines
        assert set(processes) <= {"sh", "dash"}, processes
        return record, sandbox.sh('for mark in /ran-*; do [ -e "$mark" ] && echo "$mark"; done; true').lines
    finally:
        sandbox.close()
