"""What registries say of images that need not be pulled: because only that is asked, or because a verdict may hold."""

from __future__ import annotations

from collections.abc import Iterable

from taskgate.checks._registry import Check
from taskgate.harness.base.errors import TaskgateError
from taskgate.harness.engine.registries.registry_lookup import AHEAD, RegistryLookup
from taskgate.harness.tasks.task import Task


class PublishedImages:
    """`lookup` answers in place of a pull where all `checks` are content with what a registry says; else it is None."""

    def __init__(self, checks: list[Check]) -> None:
        suffices = bool(checks) and all(check.published for check in checks)
        existence = {check.name for check in checks} == {"image_exists"}
        self.lookup = RegistryLookup(existence=existence) if suffices else None
        # For digests of images that the engine no longer has.
        self._digests: RegistryLookup | None = None

    def expect(self, tasks: Iterable[Task], *, shared: bool) -> None:
        """Ask for these now, hundreds at once; a few at a time where the tasks are `shared` with other gates."""
        requests = [task.request for task in tasks]
        if requests:
            self._asking().expect(requests, ahead=AHEAD if shared else None)

    def digest(self, task: Task) -> str | None:
        """The digest of the task's image in its registry; None where that does not say."""
        try:
            return self._asking().image(task.request).digest or None
        except TaskgateError:
            # Whatever it is, the pull will meet it again.
            return None

    def close(self) -> None:
        for lookup in (self.lookup, self._digests):
            if lookup:
                lookup.close()

    def _asking(self) -> RegistryLookup:
        if self.lookup:
            return self.lookup
        self._digests = self._digests or RegistryLookup()
        return self._digests
