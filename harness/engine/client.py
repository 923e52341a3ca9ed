"""The engine, Docker or Podman, as one object: connection, images, containers, volumes, execs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable
from taskgate.harness.engine.containers import Containers
from taskgate.harness.engine.execs import Execs
from taskgate.harness.engine.image_name import full_name
from taskgate.harness.engine.images import Image, Images
from taskgate.harness.engine.platforms import platform
from taskgate.harness.engine.volumes import Volumes

__all__ = ["Engine", "Image", "first_engine", "full_name", "platform"]


class Engine(Images, Containers, Volumes, Execs):
    """One engine, as one thread uses it: every call has a time limit, and every error is one of `base.errors`.

    Its methods are documented where they are: `images`, `containers`, `volumes`, `execs`, `connection`.
    """


def first_engine(urls: Sequence[str | None], *, pulls: int = 3) -> Engine:
    """The first of these engines that answers. Raises the last one's EngineUnavailable or EngineTimeout."""
    for url in urls[:-1]:
        with contextlib.suppress(EngineUnavailable, EngineTimeout):
            return Engine(url, pulls=pulls)
    return Engine(urls[-1], pulls=pulls)
