"""Runs an image's checks in a container, and again in a second one where once is not enough."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from taskgate.checks._registry import Check
from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.gate.confirmation import Confirmation
from taskgate.harness.gate.control import Control
from taskgate.harness.gate.image_provider import ImageProvider
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.pause import Pauses
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task

Fetch = Callable[[Task], Image]


class Examiner:
    """`lookup` answers for images that need not be started; None: they are."""

    def __init__(
        self,
        provider: ImageProvider,
        checks: list[Check],
        session: str,
        prover: Prover,
        lookup: RegistryLookup | None,
    ) -> None:
        self._provider, self._checks, self._session = provider, checks, session
        self._prover, self._lookup = prover, lookup
        self._control = Control(provider, checks, session)

    def examine(self, task: Task, delivery: Delivery | None, fetch: Fetch) -> Record:
        """The record on a task, judged now. Raises InfraError."""
        judgement = self._confirmed(task, delivery, fetch)
        record, image = judgement.record, judgement.sandbox.found_image
        if delivery and image and record.verdict is Verdict.BROKEN:
            self._control.weigh(record, task, delivery, image)
        elif delivery and record.verdict is Verdict.HEALTHY:
            self._control.passed(record, task, delivery)
        return record

    def _confirmed(self, task: Task, delivery: Delivery | None, fetch: Fetch) -> Judgement:
        """A judgement that a busy host has not brought about: what hangs or is killed must do so in two containers."""
        engine = self._provider.engine
        images: list[Image] = []

        def remember(task: Task) -> Image:
            images[:] = [fetch(task)]
            return images[0]

        again = Confirmation(lambda: self._aside(task, delivery, images[0]), engine.remove)
        with self._open(engine, task, delivery, remember, pauses=self._provider.pauses, on_slow=again.start) as first:
            try:
                first.run()
            except BaseException:
                again.cancel()
                raise
        if not first.needs_confirmation:
            again.cancel()
            return first
        if again.started:
            return again.result()
        with self._open(engine, task, delivery, fetch, pauses=self._provider.pauses) as second:
            second.run()
        return second

    @contextlib.contextmanager
    def _aside(self, task: Task, delivery: Delivery | None, image: Image) -> Iterator[Judgement]:
        """A judgement for another thread: with a client, and a network namespace, of its own. Raises InfraError."""
        engine = self._provider.connect()
        try:
            own = delivery.through(engine) if delivery else None
            with self._open(engine, task, own, lambda _: image) as judgement:
                yield judgement
        finally:
            engine.close()

    @contextlib.contextmanager
    def _open(
        self,
        engine: Engine,
        task: Task,
        delivery: Delivery | None,
        fetch: Fetch,
        *,
        pauses: Pauses | None = None,
        on_slow: Callable[[], None] | None = None,
    ) -> Iterator[Judgement]:
        sandbox = Sandbox(
            engine,
            task,
            self._session,
            checks=len(self._checks),
            delivery=delivery,
            prover=self._prover,
            registry_lookup=self._lookup,
            pauses=pauses,
            fetch=fetch,
            on_slow=on_slow,
        )
        try:
            yield Judgement(task, sandbox, self._checks)
        finally:
            # The verdict stands; the session's end, or the next run, removes what is left.
            with contextlib.suppress(InfraError):
                sandbox.close()
