"""Runs an image's checks in a container, and again in a second one where once is not enough."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from taskgate.checks._registry import Check
from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine.client import Image
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.gate.image_provider import ImageProvider
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.gate.verdict import Record
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.tasks.task import Task


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

    def examine(self, task: Task, delivery: Delivery | None, fetch: Callable[[Task], Image]) -> Record:
        """The record on a task, judged now. Raises InfraError."""
        judgement = self._run(task, delivery, fetch)
        if judgement.needs_confirmation:
            # A busy host looks like a slow image: only what happens twice is held against the image.
            judgement = self._run(task, delivery, fetch)
        return judgement.record

    def close(self) -> None:
        """Wait for what is still under way."""

    def _run(self, task: Task, delivery: Delivery | None, fetch: Callable[[Task], Image]) -> Judgement:
        sandbox = Sandbox(
            self._provider.engine,
            task,
            self._session,
            checks=len(self._checks),
            delivery=delivery,
            prover=self._prover,
            registry_lookup=self._lookup,
            pauses=self._provider.pauses,
            fetch=fetch,
        )
        judgement = Judgement(task, sandbox, self._checks)
        try:
            judgement.run()
        finally:
            # The verdict stands; the session's end, or the next run, removes what is left.
            with contextlib.suppress(InfraError):
                sandbox.close()
        return judgement
