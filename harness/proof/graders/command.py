"""A manifest's own proof: a patch, a script or a command as the solution, a command as the tests."""

from __future__ import annotations

from pathlib import Path

from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.lists import shortened
from taskgate.harness.proof import junit
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Step, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.proof_spec import Proof
from taskgate.harness.tasks.task import Task

PATCHES = (".patch", ".diff")
FOLDER = "/taskgate-solution"
MAX_SOLUTION = 64 << 20


def plan(task: Task) -> Plan:
    """Raises UsageError where the solution's file can't be read."""
    proof = task.proof
    assert proof is not None and proof.test is not None and proof.solution is not None
    return Plan(
        solve=_solve(task, proof, proof.solution),
        prepare=[Put(proof.tests_path, Path(proof.tests))] if proof.tests else [],
        test=Command(proof.test, proof.timeout),
        read=lambda traces: _read(proof, traces),
    )


def _solve(task: Task, proof: Proof, solution: str | tuple[str, ...]) -> list[Step]:
    if not isinstance(solution, str):
        return [Command(solution, proof.timeout, required=True)]
    path = Path(solution)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", field=f"{task.id}.proof.solution") from error
    if len(data) > MAX_SOLUTION:
        raise UsageError(f"{path} is larger than {MAX_SOLUTION >> 20} MiB", field=f"{task.id}.proof.solution")
    inside = f"{FOLDER}/{path.name}"
    if path.suffix in PATCHES:
        apply = ("git", "-c", "safe.directory=*", "apply", "--whitespace=nowarn", inside)
        return [Put(inside, data), Command(apply, proof.timeout, required=True, workdir=task.repo_path)]
    return [Put(inside, data, 0o755), Command(_started(inside, data), proof.timeout, required=True)]


def _started(path: str, data: bytes) -> tuple[str, ...]:
    """A script without a first line that names its interpreter is the shell's."""
    return (path,) if data.startswith(b"#!") else ("/bin/sh", path)


def _read(proof: Proof, traces: Traces) -> Outcome:
    if proof.junit:
        return _junit(proof.junit, traces)
    if traces.exit_status == proof.pass_when:
        return Outcome(RunStatus.PASSED)
    return Outcome(RunStatus.FAILED, f"the tests ended with status {traces.exit_status}")


def _junit(path: str, traces: Traces) -> Outcome:
    """The tests passed if there are some and none failed. A status of 0 doesn't turn a failure into a success."""
    try:
        data = traces.fetch(path, junit.MAX_BYTES)
        if data is None:
            return Outcome(RunStatus.FAILED, f"the tests left no {path} (status {traces.exit_status})")
        tests = junit.outcomes(data)
    except ValueError as error:
        return Outcome(RunStatus.FAILED, f"{path}: {error}")
    bad = sorted(name for name, outcome in tests.items() if outcome in ("failed", "error"))
    if bad:
        return Outcome(RunStatus.FAILED, f"{shortened(bad, 1)} failed", tests)
    if not any(outcome == "passed" for outcome in tests.values()):
        return Outcome(RunStatus.FAILED, "no test ran", tests)
    return Outcome(RunStatus.PASSED, None, tests)
