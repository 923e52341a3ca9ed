"""The manifest's `runtime`."""

from __future__ import annotations

from dataclasses import dataclass

BUILDER = "debian:bookworm-slim"
MODES = ("auto", "mount", "layer", "build", "present")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where the runtime comes from, and how it gets into a task's container.

    At most one of `from_image`, `directory` and `tar` is set. With none of them it is taskgate's own bundle, made in
    a container of the image `builder` from Debian's packages, `requirements` (a requirements.txt) and `agent` (a
    module, a package, or a project with a pyproject.toml). Paths of the host are absolute. `path` is where it stands
    in the task's container; of `from_image`, also where it is found. Mode `present`: the image has it there
    already.
    """

    mode: str = "auto"
    requirements: str | None = None
    agent: str | None = None
    builder: str = BUILDER
    from_image: str | None = None
    directory: str | None = None
    tar: str | None = None
    path: str | None = None
