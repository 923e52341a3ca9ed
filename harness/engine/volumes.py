"""Volumes on the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification
from taskgate.harness.engine.connection import Connection


class Volumes(Connection):
    """The volume API."""

    def create_volume(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        driver: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Create a volume unless one of that name exists; returns its labels. Raises InfraError."""
        with classification.translated(f"creating the volume {name}"):
            volume = self.api.create_volume(
                name, driver=driver, driver_opts=dict(options) if options else None, labels=dict(labels)
            )
        return dict(volume.get("Labels") or {})

    def volumes(self, label: str) -> Iterator[tuple[str, dict[str, str]]]:
        """The names and labels of all volumes that carry `label`. Raises InfraError."""
        with classification.translated("listing volumes"):
            for volume in self.api.volumes(filters={"label": label}).get("Volumes") or ():
                yield volume["Name"], volume.get("Labels") or {}

    def remove_volume(self, name: str) -> bool:
        """Remove a volume; False if a container uses it. No error if it is gone. Raises InfraError."""
        try:
            with classification.translated(f"removing the volume {name}"):
                self.api.remove_volume(name)
        except InfraError as error:
            status = classification.status_of(error)
            if status not in (404, 409):
                raise
            return status == 404
        return True
