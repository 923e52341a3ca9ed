"""Removes the containers and volumes that killed runs left on an engine, and those of a run that ends."""

from __future__ import annotations

import contextlib

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.ownership import LABEL


def reap(engine: Engine, session: str | None = None) -> int:
    """Remove all that is abandoned, and all of `session`'s own but for containers of attempts that still have their
    folder; returns how many containers were removed.

    What can't be removed (another run may be removing it, or the engine is slow) is left for the next run.
    Raises InfraError where the containers can't be listed.
    """
    removed = 0
    for container, labels in engine.containers(LABEL):
        if _is_due(labels, session) and not _is_inherited(engine, container, labels):
            with contextlib.suppress(InfraError):
                engine.remove(container)
                removed += 1
    # Volumes go after the containers that use them.
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
    """Are they the labels of the container's image? Then anybody may have started it.

    No image can know the session of a container that is made from it later.
    """
    inherited = engine.image_labels(container)
    return LABEL in inherited and inherited.get(f"{LABEL}.session") == labels.get(f"{LABEL}.session")
