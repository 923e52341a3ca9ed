from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.base.errors import StartFailed
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="platform")
def container_start(sandbox: Sandbox) -> Iterator[str]:
    """A container can be made from the image and started.

    The image's files are of another architecture than its configuration says: rebuild it.
    """
    try:
        sandbox.start()
    except StartFailed as error:
        if error.cause == "platform":
            # The judge knows whether this host or the image is to blame.
            raise
        # A missing user or shell has a check of its own.
        yield Skip("see the next checks") if error.cause in ("user", "shell") else str(error)
