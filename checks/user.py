from collections.abc import Iterator

from taskgate.checks.registry import Warn, check
from taskgate.harness.box import Box
from taskgate.harness.errors import StartFailed


@check(after="platform")
def user(box: Box) -> Iterator[str]:
    """The user that the agent runs as exists in the image.

    Create it (`RUN useradd -m NAME`), or name another one: `user` in the manifest, `USER` in the Dockerfile.
    """
    name = box.user.partition(":")[0]
    try:
        box.start()
    except StartFailed as error:
        if error.cause == "user":
            yield f"the image has no user or group {box.user!r}"
        return
    if name.isdecimal() and name != "0":
        passwd = box.sh('while IFS=: read -r n p u r; do [ "$u" = "$1" ] && exit; done </etc/passwd; exit 1', name)
        if passwd.code:
            yield Warn(f"uid {name} has no entry in /etc/passwd: no name and no home directory")
