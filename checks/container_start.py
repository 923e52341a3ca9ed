from collections.abc import Iterator

from taskgate.checks.registry import Skip, check
from taskgate.harness.box import Box
from taskgate.harness.errors import StartFailed


@check(after="platform")
def container_start(box: Box) -> Iterator[str]:
    """A container can be made from the image and started.

    The image's files are of another architecture than its configuration says: rebuild it.
    """
    try:
        box.start()
    except StartFailed as error:
        # A missing user or shell has a check of its own.
        yield Skip("see the next checks") if error.cause in ("user", "shell") else str(error)
