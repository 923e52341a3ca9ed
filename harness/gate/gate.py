"""The gate: one task in, one record out. Knows nothing of pytest."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

import tenacity

from taskgate.checks._registry import Check
from taskgate.harness.base.errors import CheckFailed, EngineTimeout, EngineUnavailable, InfraError, RuntimeGone
from taskgate.harness.base.version import version
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.gate.examiner import Examiner
from taskgate.harness.gate.image_provider import DiskLimit, ImageProvider
from taskgate.harness.gate.judge import EVIDENCE_CHARACTERS, new_record
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.published_images import PublishedImages
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.verdict import Evidence, Record, Verdict
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.isolation.tools import Tools
from taskgate.harness.tasks.task import Task

TRIES = 6
WAIT_SECONDS = 20.0
WAIT = tenacity.wait_exponential(multiplier=0.5, max=WAIT_SECONDS) + tenacity.wait_random(0, 0.5)
# An engine that does not answer at the start is not waited for much longer than it takes to notice a typing error.
FIRST_ANSWER_SECONDS = 3.0
# An engine that hangs is as good as none.
GONE = (EngineUnavailable, EngineTimeout)
# A verdict depends on more than the text of the checks.
VERSION = version()


class Gate:
    """Judges tasks on one engine, which `connect` opens: what is known already is not judged again (`known`), what the
    image needs is provided (`ImageProvider`), what is left is examined (`Examiner`), and all that is tried again."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        checks: list[Check],
        *,
        session: str,
        known: KnownVerdicts | None = None,
        prover: Prover | None = None,
        stopping: threading.Event | None = None,
        disk: DiskLimit | None = None,
    ) -> None:
        self._known = known or KnownVerdicts()
        self._provider = ImageProvider(connect, session, disk)
        self._published = PublishedImages(checks)
        self._lent = prover
        # Its canary has a connection of its own, which outlives this gate's.
        self.prover = prover or Prover(connect, lambda: Tools(self.engine, self._provider.store), session)
        self._examiner = Examiner(self._provider, checks, session, self.prover, self._published.lookup)
        self._versions = [f"taskgate={VERSION}", *(f"{check.name}={check.version}" for check in checks)]
        self._down = self._reached = False
        self._stopping = stopping or threading.Event()
        self._following: Task | None = None

    @property
    def engine(self) -> Engine:
        """The engine, connected on first use. Raises EngineUnavailable."""
        return self._provider.engine

    @property
    def skips(self) -> dict[str, Entry]:
        """The skip list as it was read."""
        return self._known.entries

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record on `task`, known already or found out now. Never raises for what an engine does.

        `following` is the task that comes next: its image is pulled while this one is checked.
        """
        self._following = following
        begun = time.monotonic()
        retrying = tenacity.Retrying(
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(1 if self._down else TRIES),
                tenacity.stop_when_event_set(self._stopping),
                _OutOfPatience(),
                self._never_there,  # type: ignore[arg-type] # any function will do
            ),
            sleep=tenacity.sleep_using_event(self._stopping),
            wait=self._wait,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, InfraError) and error.transient),
            reraise=True,
        )
        try:
            record = retrying(self._try, task)
            self._down = False
        except InfraError as error:
            # An engine that is away costs the first image the waiting, not every one of ten thousand.
            self._down = isinstance(error, GONE)
            record = new_record(task, Verdict.INFRA)
            if isinstance(error, CheckFailed):
                record.evidence = Evidence(
                    "(the check's own Python code)", "raised", error.trace[-EVIDENCE_CHARACTERS:]
                )
            record.reason = str(error)[:2000]
            record.hint = "Nothing is known of the image. Fix what is named above and run again."
            record.seconds = time.monotonic() - begun
        with contextlib.suppress(InfraError):
            self._provider.release(task.request)
        return record

    def _never_there(self, state: tenacity.RetryCallState) -> bool:
        """Has no engine answered since the gate was made? One that was there may be restarting, and is waited for."""
        return self._without_engine(state) and (state.seconds_since_start or 0.0) >= FIRST_ANSWER_SECONDS

    def _wait(self, state: tenacity.RetryCallState) -> float:
        if self._without_engine(state):
            return FIRST_ANSWER_SECONDS / (TRIES - 2)
        return WAIT(state)

    def _without_engine(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return not self._reached and isinstance(error, EngineUnavailable)

    def fetch(self, task: Task) -> None:
        """Have the image on the engine before the task is judged. Raises ImageNotFound and others, see Pulls."""
        if not self._published.lookup and not self.known(task):
            self._provider.image(task.request)

    def known(self, task: Task) -> Record | None:
        """The record on `task` if it is on the skip list or in the cache and still holds. Raises InfraError."""
        if record := self._known.by_hand(task):
            return record
        fingerprint = self.fingerprint(task)
        if task.pull == "always" or self._known.empty:
            return None
        digest = self.engine.digest(task.image)
        if digest is None and self._may_hold(task, fingerprint) and not self._published.lookup:
            digest = self._published.digest(task)
        return self._known.get(task, digest, fingerprint) if digest else None

    def fingerprint(self, task: Task) -> str:
        """What a verdict on `task` depends on, but for the image. Raises InfraError."""
        delivery = self.delivery(task)
        return task.fingerprint(self.engine.platform, *self._versions, *([delivery.fingerprint] if delivery else ()))

    def delivery(self, task: Task) -> Delivery | None:
        """The task's runtime, on the engine and ready; None where it has none or nothing is started. Raises
        InfraError."""
        return None if self._published.lookup else self._provider.delivery(task)

    def expect(self, tasks: Iterable[Task], *, shared: bool) -> None:
        """These will be asked for: have the registries answer what they can now. `shared` with other gates or not."""
        # Of an engine that is away nothing is known: no registry is asked for ten thousand images then.
        with contextlib.suppress(InfraError):
            away = [task for task in tasks if task.pull != "never" and self._is_away(task)]
            self._published.expect(away, shared=shared)

    def close(self) -> None:
        self._published.close()
        if not self._lent:
            with contextlib.suppress(InfraError):
                self.prover.close()
        self._provider.disconnect()

    def _try(self, task: Task) -> Record:
        try:
            self._reached = bool(self.engine)
            if known := self.known(task):
                return known
            record = self._examiner.examine(task, self.delivery(task), self._image)
            record.fingerprint = self.fingerprint(task)
        except GONE:
            self._provider.disconnect()
            raise
        except RuntimeGone:
            self._provider.forget_deliveries()
            raise
        return record

    def _image(self, task: Task) -> Image:
        """The task's image; from now on the next one's is pulled. Raises ImageNotFound and others, see Pulls."""
        image = self._provider.image(task.request)
        following, self._following = self._following, None
        with contextlib.suppress(InfraError):
            if following and not self.known(following):
                self._provider.expect(following.request)
        return image

    def _is_away(self, task: Task) -> bool:
        """Will its registry be asked: for the checks, or whether a verdict still holds? Raises InfraError."""
        if task.pull != "always" and self.engine.digest(task.image) is not None:
            return False
        if self._published.lookup:
            return True
        return not self._known.by_hand(task) and self._may_hold(task, self.fingerprint(task))

    def _may_hold(self, task: Task, fingerprint: str) -> bool:
        """Is there a verdict on it that holds if its registry has the same digest?"""
        return task.pull == "missing" and self._known.may_hold(task, fingerprint)


class _OutOfPatience(tenacity.stop.stop_base):
    """Stop where a failure has been tried for as long as it makes sense."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        patience = error.patience if isinstance(error, InfraError) else None
        return patience is not None and (retry_state.seconds_since_start or 0.0) >= patience
