from collections.abc import Iterator

from taskgate.checks import Warn, check
from taskgate.harness.base.errors import StartFailed
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="platform")
def user(sandbox: Sandbox) -> Iterator[str]:
    """The user that the agent runs as exists in the image.

    Create it (`RUN useradd -m NAME`), or name another one: `user` in the manifest, `USER` in the Dockerfile.
    """
    name = sandbox.user.partition(":")[0]
    try:
        sandbox.start()
    except StartFailed as error:
        if error.cause == "user":
            yield f"the image has no user or group {sandbox.user!r}"
        return
    if name.isdecimal() and name != "0":
        passwd = sandbox.sh('while IFS=: read -r n p u r; do [ "$u" = "$1" ] && exit; done </etc/passwd; exit 1', name)
        if passwd.code:
            yield Warn(f"uid {name} has no entry in /etc/passwd: no name and no home directory")
