from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.sandbox.services import ServiceFailed


@check(after="container_start")
def services(sandbox: Sandbox) -> Iterator[str]:
    """The services of the task start beside it, and become healthy.

    Read the service's last lines. Correct its image, command, environment or healthcheck in the manifest.
    """
    if not sandbox.task.services:
        yield Skip("the manifest names no services")
        return
    try:
        sandbox.start_services()
    except ServiceFailed as error:
        yield str(error)
