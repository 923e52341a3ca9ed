"""From checks to a verdict: runs an image's checks in order and makes the record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from taskgate.checks._registry import Check, Skip, Warn
from taskgate.harness.base.errors import InfraError, PlatformUnavailable, StartFailed, TaskgateError
from taskgate.harness.gate.verdict import Evidence, Outcome, Record, Verdict, finding
from taskgate.harness.sandbox.sandbox import CheckStopped, Sandbox
from taskgate.harness.sandbox.shell import Result
from taskgate.harness.tasks.task import Task

EVIDENCE_CHARACTERS = 4000


def new_record(task: Task, verdict: Verdict, *, digest: str | None = None, platform: str | None = None) -> Record:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Record(task.id, task.image, digest, platform, verdict, started=now)


class Judgement:
    """One image's checks as they run. Raises InfraError where nothing can be known of the image."""

    def __init__(self, task: Task, sandbox: Sandbox, checks: list[Check]) -> None:
        self.task, self.sandbox, self.checks = task, sandbox, checks
        self.record = new_record(task, Verdict.HEALTHY)
        self._outcomes: dict[str, Outcome] = {}

    def run(self) -> Record:
        """Run every check that applies; the first failing one gives the record its reason."""
        begun = time.monotonic()
        try:
            for check in self.checks:
                self._one(check)
        except PlatformUnavailable as error:
            self.record.verdict, self.record.check = Verdict.INCOMPATIBLE, "platform"
            self.record.reason = str(error)
        self._identify()
        self.record.seconds = time.monotonic() - begun
        return self.record

    def _one(self, check: Check) -> None:
        level = self.task.checks.get(check.name)
        if level == "off":
            self._note(check, Outcome.SKIP, "off in the manifest", 0.0)
            self._outcomes[check.name] = Outcome.PASS
            return
        unmet = [name for name in check.after if self._outcomes.get(name) not in (Outcome.PASS, Outcome.WARN)]
        if unmet:
            self._note(check, Outcome.SKIP, f"needs {' and '.join(unmet)}", 0.0)
            return
        begun = time.monotonic()
        self.sandbox.begin(self.task.timeout)
        outcome, reasons, failure = Outcome.PASS, list[str](), None
        for said, result in self._body(check):
            weight = Outcome.SKIP if isinstance(said, Skip) else Outcome.FAIL
            if weight is Outcome.FAIL and (level == "warn" or (isinstance(said, Warn) and level != "fail")):
                weight = Outcome.WARN
            if weight is Outcome.FAIL:
                self.sandbox.blame(f"{check.name}: {said}", result)
            if weight is Outcome.FAIL and failure is None:
                failure = (said, result)
            reasons.append(said)
            outcome = max(outcome, weight, key=[Outcome.PASS, Outcome.SKIP, Outcome.WARN, Outcome.FAIL].index)
        self._note(check, outcome, "; ".join(reasons)[:2000] or None, time.monotonic() - begun)
        if failure and self.record.verdict is Verdict.HEALTHY:
            self.record.verdict, self.record.check = Verdict.BROKEN, check.name
            self.record.reason, self.record.hint = failure[0][:2000], check.hint
            self.record.evidence = _evidence(failure[1])

    def _body(self, check: Check) -> Iterator[tuple[str, Result | None]]:
        """What the check says, each with the command that it ran last."""
        try:
            # A check that finds nothing to say may be a plain function.
            for said in check.body(self.sandbox) or ():
                yield said, self.sandbox.last
        except CheckStopped as stopped:
            if stopped.doubtful and self._emulated():
                raise PlatformUnavailable(f"{check.name} {stopped} under emulation") from stopped
            self.sandbox.doubtful = self.sandbox.doubtful or stopped.doubtful
            yield Warn(stopped) if check.advisory else str(stopped), stopped.result
        except StartFailed as error:
            if error.cause == "platform" and self._emulated():
                raise PlatformUnavailable(str(error)) from error
            if error.cause == "platform":
                yield str(error), Result("/bin/sh", 126, error.output, 0.0)
            else:
                yield Skip("the container did not start"), None
        except TaskgateError:
            raise
        except Exception as error:
            failed = InfraError(f"the check {check.name} itself failed: {type(error).__name__}: {error}")
            failed.transient = False
            raise failed from error

    def _emulated(self) -> bool:
        return self.sandbox.image.platform.split("/")[:2] != self.sandbox.host_platform.split("/")[:2]

    def _note(self, check: Check, outcome: Outcome, reason: str | None, seconds: float) -> None:
        self._outcomes[check.name] = outcome
        self.record.findings.append(finding(check.name, outcome, reason, seconds))

    def _identify(self) -> None:
        """Digest and platform, where the image was found."""
        if self._outcomes.get("image_exists") in (Outcome.PASS, Outcome.WARN):
            image = self.sandbox.image
            # A registry that was only asked whether it has the image told neither.
            self.record.digest, self.record.platform = image.digest or None, image.platform if image.digest else None


def _evidence(result: Result | None) -> Evidence | None:
    if result is None:
        return None
    status = result.stopped or result.code
    return Evidence(result.command[:EVIDENCE_CHARACTERS], status, result.out[-EVIDENCE_CHARACTERS:])
