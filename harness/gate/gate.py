"""The gate: one task in, one record out. Cache, skip list, retries, second opinions; knows nothing of pytest."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata

import tenacity

from taskgate.checks._registry import Check
from taskgate.harness.base.errors import (
    BundleError,
    EngineTimeout,
    EngineUnavailable,
    InfraError,
    RuntimeGone,
    TaskgateError,
    UsageError,
)
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.disk_budget import DiskBudget
from taskgate.harness.engine.pulls import Pulls
from taskgate.harness.engine.registries.registry_lookup import AHEAD, RegistryLookup
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.judge import Judgement, new_record
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.isolation.tools import Tools
from taskgate.harness.sandbox.pause import Pauses
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task

TRIES = 6
WAIT_SECONDS = 20.0
# An engine that hangs is as good as none.
GONE = (EngineUnavailable, EngineTimeout)
# A check is more than its own text.
VERSION = metadata.version("taskgate")


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
        disk_budget: int | None = None,
        wanted: Mapping[str, int] | None = None,
    ) -> None:
        """`disk_budget`: bytes that pulled images may take; `wanted`: how many tasks there are on each image."""
        self._connect, self._checks, self._session = connect, checks, session
        self._cache, self.skips, self._max_age, self._skip_list = cache, skips or {}, max_age, skip_list
        self._engine: Engine | None = None
        self._pauses: Pauses | None = None
        self._pulls: Pulls | None = None
        self._disk_budget, self._wanted = disk_budget, wanted or {}
        self._following: Task | None = None
        # For digests of images that the engine has no more.
        self._lookup: RegistryLookup | None = None
        self._store = Store()
        self._deliveries: dict[tuple[Runtime, str], Delivery] = {}
        # What registries can tell of need not be pulled, nor started.
        names = {check.name for check in checks}
        told = checks and all(check.published for check in checks)
        self._registry_lookup = RegistryLookup(existence=names == {"image_exists"}) if told else None
        self._versions = [f"taskgate={VERSION}", *(f"{check.name}={check.version}" for check in checks)]
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
            self._pauses = Pauses(self._engine, self._session)
            self._pulls = Pulls(self._connect, self._budget(self._engine))
        return self._engine

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record on `task`: known already, or found out now. Never raises for what an engine does.

        `following` is what will be asked for next: its image is pulled while this one is checked.
        """
        self._following = following
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
        if self._pulls:
            with contextlib.suppress(InfraError):
                self._pulls.release(task.request)
        return record

    def known(self, task: Task) -> Record | None:
        """The record on `task` if it is on the skip list or in the cache and still holds. Raises InfraError."""
        entry = self.skips.get(task.id)
        if entry and entry.by_hand:
            return self._listed(task, entry)
        return self._known(task, entry, self.fingerprint(task))

    def fingerprint(self, task: Task) -> str:
        """What a verdict on `task` depends on, but for the image. Raises InfraError."""
        delivery = self.delivery(task)
        more = [delivery.fingerprint] if delivery else []
        return task.fingerprint(self.engine.platform, *self._versions, *more)

    def expect(self, tasks: Iterable[Task], *, shared: bool) -> None:
        """These will be asked for: what registries can tell of is asked for now, hundreds at once; a bit at a time
        where the tasks are `shared` with other gates."""
        ahead = AHEAD if shared else None
        away = [task for task in tasks if task.pull != "never"]
        with contextlib.suppress(InfraError):
            away = [task for task in away if task.pull == "always" or self.engine.digest(task.image) is None]
            if not self._registry_lookup:
                away = [task for task in away if self._away(task)]
        if self._registry_lookup:
            self._registry_lookup.expect([task.request for task in away], ahead=ahead)
        elif away:
            self._lookup = RegistryLookup()
            self._lookup.expect([task.request for task in away], ahead=ahead)

    def close(self) -> None:
        for registry_lookup in (self._registry_lookup, self._lookup):
            if registry_lookup:
                registry_lookup.close()
        if not self._lent:
            with contextlib.suppress(InfraError):
                self.prover.close()
        self._forget()

    def _try(self, task: Task) -> Record:
        try:
            if known := self.known(task):
                return known
            record = self._examine(task, self.delivery(task))
            record.fingerprint = self.fingerprint(task)
        except GONE:
            # The engine may come back as another one, or somewhere else.
            self._forget()
            raise
        except RuntimeGone:
            self._deliveries.clear()
            raise
        return record

    def delivery(self, task: Task) -> Delivery | None:
        """The task's runtime, on the engine and ready; None where it has none. Raises InfraError."""
        if task.runtime is None or self._registry_lookup:
            return None
        key = (task.runtime, task.platform)
        if key not in self._deliveries:
            try:
                bundle = sources.resolve(self.engine, self._store, task.runtime, task.platform)
            except UsageError as error:
                # The controller has told the user of it already, unless the engine was away then.
                raise BundleError(str(error)) from error
            self._deliveries[key] = Delivery(self.engine, self._store, bundle, task.runtime.mode)
        return self._deliveries[key]

    def _budget(self, engine: Engine) -> DiskBudget | None:
        if self._disk_budget is None:
            return None
        return DiskBudget(engine.url, self._disk_budget, self._wanted, self._session)

    def _image(self, task: Task) -> Image:
        """The task's image; from now on the next one's is pulled. Raises ImageNotFound and others, see Pulls."""
        engine = self.engine
        assert self._pulls
        found = self._pulls.image(engine, task.request)
        following, self._following = self._following, None
        with contextlib.suppress(InfraError):
            if following and not self.known(following):
                self._pulls.expect(following.request)
        return found

    def _forget(self) -> None:
        self._deliveries.clear()
        if self._pauses:
            self._pauses.close()
            self._pauses = None
        if self._engine:
            self._engine.close()
            self._engine = None

    def _known(self, task: Task, entry: Entry | None, fingerprint: str) -> Record | None:
        """A verdict from the cache or the skip list on this very image and these settings."""
        if task.pull == "always" or not (entry or self._cache):
            return None
        digest = self.engine.digest(task.image) or self._published(task, entry, fingerprint)
        if digest is None:
            return None
        if self._cache and (record := self._cache.get(task.id, digest, fingerprint)):
            return record
        if entry and entry.digest == digest and entry.fingerprint == fingerprint and self._fresh(entry):
            return self._listed(task, entry)
        return None

    def _away(self, task: Task) -> bool:
        """Will its registry be asked whether a verdict on it still holds? Raises InfraError."""
        entry = self.skips.get(task.id)
        return not (entry and entry.by_hand) and self._remembered(task, entry, self.fingerprint(task))

    def _published(self, task: Task, entry: Entry | None, fingerprint: str) -> str | None:
        """The digest that the registry has of an image that the engine has not, if a verdict may hold for it."""
        if self._registry_lookup or not self._remembered(task, entry, fingerprint):
            return None
        self._lookup = self._lookup or RegistryLookup()
        try:
            return self._lookup.image(task.request).digest or None
        except TaskgateError:
            # Whatever it is, the pull will tell.
            return None

    def _remembered(self, task: Task, entry: Entry | None, fingerprint: str) -> bool:
        """Is there a verdict on it that holds if its registry has the same digest?"""
        if task.pull != "missing":
            return False
        if self._cache and self._cache.remembers(task.id, fingerprint):
            return True
        return bool(entry and entry.digest and entry.fingerprint == fingerprint and self._fresh(entry))

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

    def _examine(self, task: Task, delivery: Delivery | None) -> Record:
        judgement = self._run(task, delivery)
        if judgement.sandbox.doubtful and judgement.record.verdict is Verdict.BROKEN:
            # A busy host looks like a slow image: only what happens twice is held against the image.
            judgement = self._run(task, delivery)
        return judgement.record

    def _run(self, task: Task, delivery: Delivery | None) -> Judgement:
        sandbox = Sandbox(
            self.engine,
            task,
            self._session,
            checks=len(self._checks),
            delivery=delivery,
            prover=self.prover,
            registry_lookup=self._registry_lookup,
            pauses=self._pauses,
            fetch=self._image,
        )
        judgement = Judgement(task, sandbox, self._checks)
        try:
            judgement.run()
        finally:
            # The verdict stands; the session's end, or the next run, removes what is left.
            with contextlib.suppress(InfraError):
                sandbox.close()
        return judgement
