"""The images that an engine has: `engine://[?match=…]`, or `engine:///path/to/docker.sock`."""

from __future__ import annotations

from collections.abc import Iterator

from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

SCHEME = "engine://"
# taskgate's own, which hold no task.
OWN = ("taskgate/scratch:",)


def recognises(source: Source) -> bool:
    return source.text.startswith(SCHEME)


def load(source: Source) -> Iterator[Row]:
    """A row a tag. Raises UsageError where none is there, InfraError."""
    where = source.text.removeprefix(SCHEME)
    if where and not where.startswith("/"):
        raise source.fail("expected engine:// or engine:///path/to/its.sock")
    engine = Engine(f"unix://{where}" if where else None)
    try:
        tags = sorted(engine.tags())
    finally:
        engine.close()
    tags = [tag for tag in tags if not tag.startswith(OWN)]
    if not tags:
        raise source.fail("the engine has no images that have a name")
    for tag in tags:
        # They are here: nobody need have published them.
        yield Row({"image": tag, "id": tag, "pull": "never"}, source.text, fallback={"repo_path": None})


IMPORTER = Importer("engine", "engine://, the local engine's images", recognises, load)
