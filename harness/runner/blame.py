"""Who failed: the agent, the endpoint that it calls, or the infrastructure? Read from what each of them left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from taskgate.harness.runner.signatures import SIGNATURES, SUBMITTED, SUBMITTED_FLAGS, Party

NOUNS = {
    Party.AGENT: "a failure of the agent",
    Party.ENDPOINT: "a failure of the endpoint",
    Party.INFRA: "an infrastructure failure",
}
STATUS_FIELDS = ("exit_status", "status", "outcome", "error_type")
ERROR_FIELDS = ("error", "errors", "exception")
INFRA_FLAGS = ("infra_failure", "infrastructure_failure", "infra_error")
# Of an error that a trajectory quotes. Patterns are tried at every place: what they are given has an end.
TEXT_CHARS = 20_000
# The end of a log, in which an agent that crashed says why.
LOG_LINES = 20
WORD = re.compile(r"[A-Za-z0-9_$]+")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that was recognised: who failed, its kind, the words that it was recognised by, and the file that
    holds them."""

    party: Party
    kind: str
    words: str
    file: str | None = None

    def __str__(self) -> str:
        place = f"{self.file} records" if self.file else "its log ends with"
        return f"{place} {NOUNS[self.party]} ({self.kind}: {self.words})"


@dataclass(frozen=True, slots=True)
class Statement:
    """What an agent's files say of how it ended. `submitted`: that it came to its own end. `empty`: its prediction
    changes nothing. `failure`: what it says went wrong. `steps`: its trajectory holds a list that is not empty."""

    submitted: bool = False
    empty: bool = False
    steps: bool = False
    failure: Failure | None = None


def of_parts(name: str, parts: list[dict[str, Any]]) -> Failure | None:
    """The failure that a trajectory or prediction records, called `name`; `parts` are its objects that may say so."""
    for part in parts:
        for field in INFRA_FLAGS:
            if part.get(field):
                return Failure(Party.INFRA, field, str(part[field]), name)
        for field in STATUS_FIELDS:
            if failure := of_status(part.get(field)):
                return Failure(failure.party, failure.kind, str(part[field]), name)
        for field in ERROR_FIELDS:
            text = part.get(field)
            if text and (failure := of_text(text if isinstance(text, str) else str(text)[:TEXT_CHARS])):
                return Failure(failure.party, failure.kind, failure.words, name)
    return None


def of_status(status: object) -> Failure | None:
    """The failure that a recorded status names, such as `RateLimitError` or `submitted (exit_api)`."""
    if not isinstance(status, str):
        return None
    status = status[:TEXT_CHARS]
    names = _names()
    for word in WORD.findall(status):
        if word in names:
            party, kind = names[word]
            return Failure(party, kind, status)
    if "infra" in status.lower():
        return Failure(Party.INFRA, "status", status)
    return of_text(status)


def of_text(text: str) -> Failure | None:
    """The failure that a message describes. `words` is the line that says so."""
    text = text[-TEXT_CHARS:]
    for signature, pattern in _patterns():
        if match := pattern.search(text):
            start = text.rfind("\n", 0, match.start()) + 1
            line = text[start:].partition("\n")[0].strip()
            return Failure(signature[0], signature[1], line[:300])
    return None


def of_log(tail: str) -> Failure | None:
    """The failure that the end of a log describes. Only for an agent that did not come to a result: whoever works on
    software prints such words all the time."""
    return of_text("\n".join(tail.splitlines()[-LOG_LINES:]))


def submitted(parts: list[dict[str, Any]]) -> bool:
    """Do a trajectory's or prediction's objects say that the agent came to its own end?"""
    for part in parts:
        if any(part.get(flag) is True for flag in SUBMITTED_FLAGS):
            return True
        for field in STATUS_FIELDS:
            status = part.get(field)
            if isinstance(status, str) and status.strip().lower() in SUBMITTED:
                return True
    return False


@cache
def _names() -> dict[str, tuple[Party, str]]:
    return {name: (row.party, row.kind) for row in reversed(SIGNATURES) for name in row.names}


@cache
def _patterns() -> list[tuple[tuple[Party, str], re.Pattern[str]]]:
    return [((row.party, row.kind), re.compile("|".join(row.texts), re.IGNORECASE)) for row in SIGNATURES if row.texts]
