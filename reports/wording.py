"""What verdicts are called in reports: the gate's names, or those of proofs."""

from __future__ import annotations

from collections import Counter

from taskgate.harness.gate.tally import Group, Tally
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.proof.decision import ProofVerdict
from taskgate.harness.proof.proof_record import is_proof, proof_verdict

# These verdicts are counted even where there are none.
ALWAYS = (ProofVerdict.SOLVABLE, ProofVerdict.UNSOLVABLE, ProofVerdict.TRIVIAL, ProofVerdict.FLAKY)


def proving(tally: Tally) -> bool:
    """Are all records proofs?"""
    return bool(tally.records) and all(map(is_proof, tally.records.values()))


def name(record: Record) -> str:
    """The verdict on one task."""
    return str(proof_verdict(record)) if is_proof(record) else str(record.verdict)


def counts(tally: Tally) -> dict[str, int]:
    """Records by verdict: all of the gate's, or the proofs' (the rarer ones if there are any)."""
    if not proving(tally):
        return tally.counts
    counter = Counter(proof_verdict(record) for record in tally.records.values())
    return {
        str(verdict): counter[verdict]
        for verdict in ProofVerdict
        if counter[verdict] or verdict in ALWAYS or verdict is ProofVerdict.INCONCLUSIVE
    }


def groups(tally: Tally) -> list[tuple[str, Group]]:
    """Verdict and (check, reason, ids) of all that is not sound; within a verdict the most frequent first."""
    by_verdict = [
        (str(verdict), group)
        for verdict in (Verdict.BROKEN, Verdict.INFRA, Verdict.INCOMPATIBLE)
        for group in tally.grouped(verdict)
    ]
    if not proving(tally):
        return by_verdict
    order = list(map(str, ProofVerdict))
    # A proof's check is its verdict.
    renamed = [(check, ("", reason, ids)) for _, (check, reason, ids) in by_verdict]
    return sorted(renamed, key=lambda group: order.index(group[0]))
