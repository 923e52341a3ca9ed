"""Removes the containers and volumes that killed runs left on an engine, and those of a run at its end."""

from __future__ import annotations

import contextlib

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.ownership import LABEL


def reap(engine: Engine, session: str | None = None) -> int:
    """Remove what is abandoned, and what belongs to `session`, except containers of attempts that still have their
    folder. Returns the number of removed containers.

    What can't be removed (another run is removing it, or the engine is slow) is left for the next run.
    Raises InfraError if the containers can't be listed.
    """
    removed = 0
    for container, labels in engine.containers(LABEL):
        if _is_due(labels, session) and not _is_inherited(engine, container, labels):
            with contextlib.suppress(InfraError):
                engine.remove(container)
                removed += 1
    # After the containers that use them.
    with contextlib.suppress(InfraError):
        for name, labels in engine.volumes(LABEL):
            if _is_due(labels, session):
                with contextlib.suppress(InfraError):
                    engine.remove_volume(name)
    return removed


def _is_due(labels: dict[str, str], session: str | None) -> bool:
    if ownership.is_attempted(labels):
        return ownership.abandoned(labels)
    return ownership.abandoned(labels) or (session is not None and labels.get(f"{LABEL}.session") == session)


def _is_inherited(engine: Engine, container: str, labels: dict[str, str]) -> bool:
    """Do the labels come from the container's image? Then anybody may have started it.

    No image can hold the session of a container that is created from it later.
    """
    inherited = engine.image_labels(container)
    return LABEL in inherited and inherited.get(f"{LABEL}.session") == labels.get(f"{LABEL}.session")
