import re
from collections.abc import Iterator

from taskgate.checks import Skip, check
from taskgate.harness.base.errors import NoSpace
from taskgate.harness.sandbox.sandbox import Sandbox

FREE_MIB = 256


@check(after="shell")
def disk(sandbox: Sandbox) -> Iterator[str]:
    """The container has room to work: 256 MiB free where the agent starts.

    Free space on the engine's disk. This is the host's trouble, never the image's.
    """
    result = sandbox.sh('[ -d "$1" ] || set -- /; LC_ALL=C df -Pk "$1"', sandbox.start_dir)
    columns = result.lines[-1].split() if result.ok and result.lines else []
    if len(columns) < 4 or not re.fullmatch(r"\d{1,18}", columns[-3], re.ASCII):
        yield Skip("the image has no working df")
    elif (free := int(columns[-3]) >> 10) < FREE_MIB:
        raise NoSpace(f"only {free} MiB are free on the engine's disk")
