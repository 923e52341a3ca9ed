"""The gate: one task in, one record out. Cache, skip list, retries, second opinions; knows nothing of pytest."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import tenacity

from taskgate.checks.registry import Check
from taskgate.harness import owner
from taskgate.harness.box import Box
from taskgate.harness.cache import VerdictCache
from taskgate.harness.engine import Engine
from taskgate.harness.errors import BundleError, EngineTimeout, EngineUnavailable, InfraError, UsageError
from taskgate.harness.isolation.proof import Prover
from taskgate.harness.isolation.tools import Tools
from taskgate.harness.judge import Judgement, new_record
from taskgate.harness.registries.survey import AHEAD, Survey
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.runtime.placement import Placement
from taskgate.harness.runtime.spec import Runtime
from taskgate.harness.skiplist import Entry
from taskgate.harness.task import Task
from taskgate.harness.verdict import Record, Verdict

TRIES = 6
WAIT_SECONDS = 20.0
# An engine that hangs is as good as none.
GONE = (EngineUnavailable, EngineTimeout)


class Gate:
    """Judges tasks on one engine. `connect` makes the engine, now and again after it went away."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        checks: list[Check],
        *,
        session: str,
        cache: VerdictCache | None = None,
        skips: dict[str, Entry] | None = None,
        max_age: timedelta | None = None,
        skip_list: str = "",
        prover: Prover | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._connect, self._checks, self._session = connect, checks, session
        self._cache, self.skips, self._max_age, self._skip_list = cache, skips or {}, max_age, skip_list
        self._engine: Engine | None = None
        self._store = Store()
        self._placements: dict[tuple[Runtime, str], Placement] = {}
        # What registries can tell of need not be pulled, nor started.
        names = {check.name for check in checks}
        told = checks and all(check.published for check in checks)
        self._survey = Survey(existence=names == {"image_exists"}) if told else None
        self._versions = [f"{check.name}={check.version}" for check in checks]
        self._down = False
        self._stopping = stopping or threading.Event()
        self._lent = prover
        # Its canary has a connection of its own, which outlives this gate's.
        self.prover = prover or Prover(connect, lambda: Tools(self.engine, self._store), session)

    @property
    def engine(self) -> Engine:
        """The engine, connected on first use. Raises EngineUnavailable."""
        if self._engine is None:
            self._engine = self._connect()
        return self._engine

    def judge(self, task: Task) -> Record:
        """The record on `task`: known already, or found out now. Never raises for what an engine does."""
        begun = time.monotonic()
        tries = 1 if self._down else TRIES
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(tries) | tenacity.stop_when_event_set(self._stopping),
            sleep=tenacity.sleep_using_event(self._stopping),
            wait=tenacity.wait_exponential(multiplier=0.5, max=WAIT_SECONDS) + tenacity.wait_random(0, 0.5),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, InfraError) and error.transient),
            reraise=True,
        )
        try:
            record = retrying(self._try, task)
            self._down = False
        except InfraError as error:
            # Such an engine costs the first image the waiting, not every one of ten thousand.
            self._down = isinstance(error, GONE)
            record = new_record(task, Verdict.INFRA)
            record.reason = str(error)[:2000]
            record.hint = "Nothing is known of the image. Mend what is named above and run again."
            record.seconds = time.monotonic() - begun
        return record

    def known(self, task: Task) -> Record | None:
        """The record on `task` if it is on the skip list or in the cache and still holds. Raises InfraError."""
        entry = self.skips.get(task.id)
        if entry and entry.by_hand:
            return self._listed(task, entry)
        return self._known(task, entry, self.fingerprint(task))

    def fingerprint(self, task: Task) -> str:
        """What a verdict on `task` depends on, but for the image. Raises InfraError."""
        placement = self.placement(task)
        more = [placement.fingerprint] if placement else []
        return task.fingerprint(self.engine.platform, *self._versions, *more)

    def expect(self, tasks: Iterable[Task], *, shared: bool) -> None:
        """These will be asked for: what registries can tell of is asked for now, hundreds at once; a bit at a time
        where the tasks are `shared` with other gates."""
        if self._survey:
            local = [task for task in tasks if task.pull != "never"]
            with contextlib.suppress(InfraError):
                local = [task for task in local if task.pull == "always" or self.engine.digest(task.image) is None]
            self._survey.expect(local, ahead=AHEAD if shared else None)

    def close(self) -> None:
        if self._survey:
            self._survey.close()
        if not self._lent:
            with contextlib.suppress(InfraError):
                self.prover.close()
        if self._engine:
            self._engine.close()

    def _try(self, task: Task) -> Record:
        try:
            if known := self.known(task):
                return known
            record = self._examine(task, self.placement(task))
            record.fingerprint = self.fingerprint(task)
        except GONE:
            # The engine may come back as another one, or somewhere else.
            self._forget()
            raise
        return record

    def placement(self, task: Task) -> Placement | None:
        """The task's runtime, on the engine and ready; None where it has none. Raises InfraError."""
        if task.runtime is None or self._survey:
            return None
        key = (task.runtime, task.platform)
        if key not in self._placements:
            try:
                bundle = sources.resolve(self.engine, self._store, task.runtime, task.platform)
            except UsageError as error:
                # The controller has told the user of it already, unless the engine was away then.
                raise BundleError(str(error)) from error
            self._placements[key] = Placement(self.engine, self._store, bundle, task.runtime.mode)
        return self._placements[key]

    def _forget(self) -> None:
        self._placements.clear()
        if self._engine:
            self._engine.close()
            self._engine = None

    def _known(self, task: Task, entry: Entry | None, fingerprint: str) -> Record | None:
        """A verdict from the cache or the skip list on this very image and these settings."""
        if task.pull == "always" or not (entry or self._cache):
            return None
        digest = self.engine.digest(task.image)
        if digest is None:
            return None
        if self._cache and (record := self._cache.get(task.id, digest, fingerprint)):
            return record
        if entry and entry.digest == digest and entry.fingerprint == fingerprint and self._fresh(entry):
            return self._listed(task, entry)
        return None

    def _fresh(self, entry: Entry) -> bool:
        if self._max_age is None:
            return True
        oldest = datetime.now(UTC) - self._max_age
        return (entry.last or "") >= oldest.isoformat(timespec="milliseconds")

    def _listed(self, task: Task, entry: Entry) -> Record:
        record = new_record(task, Verdict.BROKEN, digest=entry.digest)
        record.cached, record.check, record.fingerprint = True, entry.check or "skip_list", entry.fingerprint
        record.reason = entry.reason or f"listed by hand in {self._skip_list}"
        by_name = {check.name: check for check in self._checks}
        known = by_name.get(entry.check or "")
        record.hint = known.hint if known else "Take the line out of the skip list to have it checked."
        return record

    def _examine(self, task: Task, placement: Placement | None) -> Record:
        judgement = self._run(task, placement)
        if judgement.timed_out and judgement.record.verdict is Verdict.BROKEN:
            # A busy host looks like a slow image: only what happens twice is held against the image.
            judgement = self._run(task, placement)
        return judgement.record

    def _run(self, task: Task, placement: Placement | None) -> Judgement:
        box = Box(
            self.engine,
            task,
            self._session,
            checks=len(self._checks),
            placement=placement,
            prover=self.prover,
            survey=self._survey,
        )
        judgement = Judgement(task, box, self._checks)
        try:
            judgement.run()
        finally:
            # The verdict stands; the session's end, or the next run, removes what is left.
            with contextlib.suppress(InfraError):
                box.close()
        return judgement

    def reap(self) -> int:
        """Remove what killed runs left and what this session still has; how many containers that were."""
        return owner.reap(self.engine, self._session)
