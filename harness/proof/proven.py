"""What earlier proofs say of a task, for runs that only take tasks that were proven solvable."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.out_files import CACHE
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.verdict import Record
from taskgate.harness.proof import fingerprint, graders
from taskgate.harness.proof.decision import ProofVerdict
from taskgate.harness.proof.proof_record import is_proof, proof_verdict
from taskgate.harness.tasks.task import Task


class Proven:
    """The proofs in `out`, the --out folder of `taskgate prove`."""

    def __init__(self, out: Path) -> None:
        """Raises UsageError where there are none."""
        if not (out / CACHE).is_file():
            raise UsageError(
                f"{out} holds no proofs; write some with `taskgate prove SOURCE --out={out}`", field="--proof"
            )
        self._cache = VerdictCache(out / CACHE, None)

    def problem(self, task: Task, digests: Iterable[str]) -> str | None:
        """Why the task does not count as solvable in an image with these digests; None where it does."""
        try:
            mark = fingerprint.of(task, graders.plan_of(task))
        except (UsageError, InfraError) as error:
            return f"not proven solvable: {error}"
        for digest in digests:
            record: Record | None = self._cache.get(task.id, digest, mark)
            if record and is_proof(record):
                verdict = proof_verdict(record)
                return None if verdict is ProofVerdict.SOLVABLE else f"proven {verdict}: {record.reason}"
        return "not proven solvable with this image, solution, tests and settings: run `taskgate prove` again"
