from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="container_start")
def network(sandbox: Sandbox) -> Iterator[str]:
    """Where the manifest says `network: none`, nothing outside can be reached: canaries on the host hear nothing.

    See what the engine does to containers without a network. This is the host's trouble, never the image's.
    """
    if sandbox.task.network != "none":
        yield Skip("the manifest asks for no isolation")
    else:
        # Raises where it is not cut off, or where that can't be proven: nothing of it is the image's doing.
        sandbox.prove_isolation()
