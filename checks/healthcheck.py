import shlex
import time
from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="shell")
def healthcheck(sandbox: Sandbox) -> Iterator[str]:
    """The manifest's `healthcheck` succeeds in the task's container.

    Run the command in the image. What it waits for must be started by the image's files alone: no ENTRYPOINT is run.
    """
    wanted = sandbox.task.healthcheck
    if wanted is None:
        yield Skip("the manifest names no healthcheck")
        return
    for attempt in range(1, wanted.retries + 1):
        result = sandbox.as_agent('exec "$@"', *wanted.command, shown=shlex.join(wanted.command))
        if result.ok:
            return
        if attempt < wanted.retries:
            time.sleep(min(wanted.interval, max(0.0, sandbox.task.timeout / wanted.retries - 1)))
    yield f"{shlex.join(wanted.command)} ends with status {result.code}"
