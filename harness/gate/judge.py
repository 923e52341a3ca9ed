"""From checks to a verdict: runs an image's checks in order and builds the record."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Iterator

from taskgate.checks import _registry as registry
from taskgate.checks._registry import Check, Skip, Warn
from taskgate.harness.base.errors import (
    CheckFailed,
    ImageNotFound,
    InfraError,
    PlatformUnavailable,
    StartFailed,
    TaskgateError,
)
from taskgate.harness.base.timestamps import utc_now
from taskgate.harness.gate.verdict import Evidence, Outcome, Record, Verdict, finding
from taskgate.harness.sandbox.sandbox import CheckStopped, Sandbox
from taskgate.harness.sandbox.shell import Result
from taskgate.harness.tasks.task import Task

EVIDENCE_CHARACTERS = 4000
# The heaviest outcome of a check counts.
WEIGHTS = [Outcome.PASS, Outcome.SKIP, Outcome.WARN, Outcome.FAIL]
# The check that a container's failure to start is reported under; `container_start` for any other cause.
CHECK_OF_CAUSE = {"user": "user", "shell": "shell"}


def new_record(task: Task, verdict: Verdict, *, digest: str | None = None, platform: str | None = None) -> Record:
    now = utc_now()
    return Record(task.id, task.image, digest, platform, verdict, started=now)


class Judgement:
    """One image's checks as they run; set `cancelled` to end it. Raises InfraError where nothing can be known of the
    image."""

    def __init__(self, task: Task, sandbox: Sandbox, checks: list[Check]) -> None:
        self.task, self.sandbox, self.checks = task, sandbox, checks
        self.record = new_record(task, Verdict.HEALTHY)
        self.cancelled = threading.Event()
        self._outcomes: dict[str, Outcome] = {}

    def run(self) -> Record:
        """Run every check that applies; the first failing one gives the record its reason."""
        begun = time.monotonic()
        try:
            for check in self.checks:
                if self.cancelled.is_set():
                    raise InfraError("the judgement was cancelled")
                self._judge(check)
            self._require_start()
        except PlatformUnavailable as error:
            self.record.verdict, self.record.check = Verdict.INCOMPATIBLE, "platform"
            self.record.reason = str(error)
        self._identify()
        self.record.seconds = time.monotonic() - begun
        return self.record

    @property
    def needs_confirmation(self) -> bool:
        """Is the image broken by something that a busy host may have caused as well?"""
        return self.sandbox.needs_confirmation and self.record.verdict is Verdict.BROKEN

    def _judge(self, check: Check) -> None:
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
        for reason, result in self._results(check):
            weight = Outcome.SKIP if isinstance(reason, Skip) else Outcome.FAIL
            if weight is Outcome.FAIL and (level == "warn" or (isinstance(reason, Warn) and level != "fail")):
                weight = Outcome.WARN
            if weight is Outcome.FAIL:
                self.sandbox.rule_out_host(f"{check.name}: {reason}", result)
            if weight is Outcome.FAIL and failure is None:
                failure = (reason, result)
            reasons.append(reason)
            outcome = max(outcome, weight, key=WEIGHTS.index)
        self._note(check, outcome, "; ".join(reasons)[:2000] or None, time.monotonic() - begun)
        if failure and self.record.verdict is Verdict.HEALTHY:
            self._fail(check.name, *failure)

    def _fail(self, check: str, reason: str, result: Result | None) -> None:
        self.record.verdict, self.record.check, self.record.reason = Verdict.BROKEN, check, reason[:2000]
        known = next((item for item in self.checks if item.name == check), None) or registry.declared(check)
        self.record.hint = known.hint if known else None
        self.record.evidence = _evidence(result)

    def _require_start(self) -> None:
        """What a user left out, turned off or downgraded can't make an image healthy that does not even start.

        Checks that a registry alone can answer start nothing on purpose. Raises PlatformUnavailable, InfraError.
        """
        judged = self.record.verdict is not Verdict.HEALTHY or self.sandbox.started
        if judged or all(check.published for check in self.checks):
            return
        begun = time.monotonic()
        self.sandbox.begin(self.task.timeout)
        try:
            self.sandbox.start()
            return
        except ImageNotFound as error:
            check, reason, result = "image_exists", str(error), None
        except StartFailed as error:
            self._rule_out_emulation(error)
            check, reason = CHECK_OF_CAUSE.get(error.cause, "container_start"), str(error)
            result = Result("/bin/sh", 126, error.output, 0.0)
        self._fail(check, reason, result)
        self.record.findings = [item for item in self.record.findings if item.check != check]
        self.record.findings.append(finding(check, Outcome.FAIL, reason[:2000], time.monotonic() - begun))

    def _results(self, check: Check) -> Iterator[tuple[str, Result | None]]:
        """The check's reasons, each with the command that it ran last."""
        try:
            # A check without any reason to report may be a plain function.
            for reason in check.body(self.sandbox) or ():
                yield reason, self.sandbox.last
        except CheckStopped as stopped:
            if stopped.needs_confirmation and self._emulated():
                raise PlatformUnavailable(f"{check.name} {stopped} under emulation") from stopped
            self.sandbox.needs_confirmation = self.sandbox.needs_confirmation or stopped.needs_confirmation
            yield Warn(stopped) if check.advisory or stopped.busy else str(stopped), stopped.result
        except ImageNotFound:
            yield Skip("the image does not exist"), None
        except StartFailed as error:
            self._rule_out_emulation(error)
            if error.cause == "platform":
                yield str(error), Result("/bin/sh", 126, error.output, 0.0)
            else:
                yield Skip("the container did not start"), None
        except TaskgateError:
            raise
        except Exception as error:
            raise _check_failed(check, error) from error

    def _rule_out_emulation(self, error: StartFailed) -> None:
        """Raises PlatformUnavailable where the image is of another architecture, and that may be why."""
        if error.cause == "platform" and self._emulated():
            raise PlatformUnavailable(str(error)) from error

    def _emulated(self) -> bool:
        return self.sandbox.image.platform.split("/")[:2] != self.sandbox.host_platform.split("/")[:2]

    def _note(self, check: Check, outcome: Outcome, reason: str | None, seconds: float) -> None:
        self._outcomes[check.name] = outcome
        self.record.findings.append(finding(check.name, outcome, reason, seconds))

    def _identify(self) -> None:
        """Digest and platform, where the image was found."""
        if image := self.sandbox.found_image:
            # A registry that was only asked whether it has the image names neither.
            self.record.digest, self.record.platform = image.digest or None, image.platform if image.digest else None


def _evidence(result: Result | None) -> Evidence | None:
    if result is None:
        return None
    status = result.stopped or result.code
    return Evidence(result.command[:EVIDENCE_CHARACTERS], status, result.out[-EVIDENCE_CHARACTERS:])


def _check_failed(check: Check, error: Exception) -> CheckFailed:
    """What to tell the author of a check that raised `error`: the exception, file and line, and the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    # The first frames are the gate's own; what the check called may be anybody's.
    own = inspect.getsourcefile(check.body)
    start = next((number for number, frame in enumerate(frames) if frame.filename == own), 0)
    last = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    problem = f"the check {check.name} itself failed: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames[start:])]
    return CheckFailed(problem, trace="".join([*lines, *traceback.format_exception_only(error)]))
