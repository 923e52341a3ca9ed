"""One run of a control: what was done to the task, and how its tests came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Control(StrEnum):
    """What is put into the container before the tests run: the reference solution or nothing, with the task's own
    network or without any."""

    GOLD = "gold"
    NOP = "nop"
    GOLD_OFFLINE = "gold-offline"
    NOP_OFFLINE = "nop-offline"

    @property
    def solves(self) -> bool:
        return self in (Control.GOLD, Control.GOLD_OFFLINE)

    @property
    def offline(self) -> bool:
        return self in (Control.GOLD_OFFLINE, Control.NOP_OFFLINE)


class RunStatus(StrEnum):
    """`incomplete`: the tests did not come to an end of their own, and nothing is known."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Run:
    """`tests` maps a test's name to `passed`, `failed`, `error` or `skipped`, as far as the harness tells them apart.

    `seconds` is the wall-clock time of solution and tests together, `peak_memory` in bytes (None: the engine doesn't
    say). `log` is the file with the output, relative to the folder of the proof.
    """

    control: Control
    number: int
    status: RunStatus
    reason: str | None = None
    exit_status: int | None = None
    command: str = ""
    tests: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int | None = None
    log: str | None = None

    @property
    def completed(self) -> bool:
        return self.status is not RunStatus.INCOMPLETE

    @property
    def passed(self) -> bool:
        return self.status is RunStatus.PASSED

    def as_dict(self) -> dict[str, Any]:
        """The written form, as plain JSON values."""
        return {
            "control": str(self.control),
            "number": self.number,
            "status": str(self.status),
            "reason": self.reason,
            "exit_status": self.exit_status,
            "command": self.command,
            "tests": dict(self.tests),
            "seconds": round(self.seconds, 3),
            "peak_memory": self.peak_memory,
            "log": self.log,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        """The inverse of `as_dict`. Raises KeyError, TypeError or ValueError where `data` is not a run."""
        tests = data["tests"]
        if not isinstance(tests, dict) or not all(isinstance(value, str) for value in tests.values()):
            raise TypeError("tests must map names to outcomes")
        return cls(
            control=Control(data["control"]),
            number=int(data["number"]),
            status=RunStatus(data["status"]),
            reason=data["reason"],
            exit_status=data["exit_status"],
            command=str(data["command"]),
            tests=tests,
            seconds=float(data["seconds"]),
            peak_memory=data["peak_memory"],
            log=data["log"],
        )
