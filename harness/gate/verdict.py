"""Findings about an image, and the record that journal and verdicts.json hold."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import NoneType
from typing import Any


class Verdict(StrEnum):
    HEALTHY = "healthy"
    BROKEN = "broken"
    INCOMPATIBLE = "incompatible"
    INFRA = "infra"


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check ran and saw. `status` is an exit status, or words such as `timed out after 30 s`."""

    command: str
    status: int | str
    output: str

    def as_dict(self) -> dict[str, Any]:
        return {"command": self.command, "status": self.status, "output": self.output}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome. `seconds` is wall-clock time. Create it by `finding`: a run may have millions of them."""

    check: str
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "seconds": round(self.seconds, 4),
        }


@lru_cache(1 << 15)
def _shared(check: str, outcome: Outcome, reason: str | None, seconds: float) -> Finding:
    return Finding(check, outcome, reason, seconds)


def finding(check: str, outcome: Outcome, reason: str | None, seconds: float) -> Finding:
    """One check's outcome, to a tenth of a millisecond; equal ones are one object."""
    return _shared(check, outcome, reason, round(seconds, 4))


@dataclass(slots=True)
class Record:
    """The verdict on one task's image.

    `check`, `reason`, `hint` are the first failing check's (for infra and incompatible: what happened),
    else None. `started` is ISO 8601 in UTC. `evidence` and `fingerprint` travel beside the record
    (user properties, cache) and are no part of the record's written form.
    """

    task_id: str
    image: str
    digest: str | None
    platform: str | None
    verdict: Verdict
    check: str | None = None
    reason: str | None = None
    hint: str | None = None
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    cached: bool = False
    started: str = ""
    evidence: Evidence | None = None
    fingerprint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The written form: plain JSON values, keys as the design names them."""
        return {
            "task_id": self.task_id,
            "image": self.image,
            "digest": self.digest,
            "platform": self.platform,
            "verdict": str(self.verdict),
            "check": self.check,
            "reason": self.reason,
            "hint": self.hint,
            "findings": [finding.as_dict() for finding in self.findings],
            "seconds": round(self.seconds, 4),
            "cached": self.cached,
            "started": self.started,
        }

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], evidence: dict[str, Any] | None = None, fingerprint: str | None = None
    ) -> Record:
        """The inverse of `as_dict`. Raises KeyError, TypeError or ValueError where `data` is no record."""
        known = {name: _of(data[name], str) for name in ("task_id", "image", "started")}
        known |= {name: _of(data[name], str, NoneType) for name in ("digest", "platform", "check", "reason", "hint")}
        return cls(
            **known,
            verdict=Verdict(data["verdict"]),
            findings=[_finding(entry) for entry in _of(data["findings"], list)],
            seconds=_of(data["seconds"], float, int),
            cached=_of(data["cached"], bool),
            evidence=_evidence(evidence) if evidence else None,
            fingerprint=_of(fingerprint, str, NoneType),
        )


def _of(value: Any, *kinds: type) -> Any:
    """The value, if it is of a kind that belongs there. Equal texts are one object: most records share theirs."""
    if not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{str(value)[:80]!r} is no {kinds[0].__name__}")
    return sys.intern(value) if type(value) is str else value


def _finding(data: dict[str, Any]) -> Finding:
    reason, seconds = _of(data["reason"], str, NoneType), _of(data["seconds"], float, int)
    return finding(_of(data["check"], str), Outcome(data["outcome"]), reason, seconds)


def _evidence(data: dict[str, Any]) -> Evidence:
    return Evidence(_of(data["command"], str), _of(data["status"], int, str), _of(data["output"], str))
