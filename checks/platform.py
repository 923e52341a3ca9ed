from collections.abc import Iterator

from taskgate.checks import Warn, check
from taskgate.harness.base.errors import PlatformUnavailable, StartFailed
from taskgate.harness.engine.platforms import same_platform
from taskgate.harness.sandbox.sandbox import Sandbox


@check(after="image_exists", published=True)
def platform(sandbox: Sandbox) -> Iterator[str]:
    """The image is of the platform that the manifest asks for, and this host can run it.

    Use a host of that architecture, or publish the image for the one that the manifest asks for.
    """
    have, wanted, host = sandbox.image.platform, sandbox.task.platform, sandbox.host_platform
    if not same_platform(have, wanted):
        raise PlatformUnavailable(f"the image is {have}, the manifest asks for {wanted}")
    if not same_platform(have, host):
        try:
            if not sandbox.pulled:
                yield Warn(
                    f"the image is {have}, this host {host}: whether that runs here shows only once it is pulled"
                )
                return
            sandbox.start()
        except StartFailed as error:
            if error.cause == "platform":
                raise PlatformUnavailable(f"the image is {have}, this host only runs {host}") from error
            if error.cause == "shell" and sandbox.exists("/bin/sh"):
                # An emulator that is missing, crashes or is slow looks like a shell that does.
                raise PlatformUnavailable(
                    f"the image is {have} and does not start on this host ({host}): {error}"
                ) from error
            yield Warn(f"the image is {have}, this host {host}: it needs emulation here")
            return
        yield Warn(f"the image is {have} and runs under emulation here ({host}): expect it to be many times slower")
