"""The pre-flight checks: a file each, one decorated function. Files with a leading underscore are helpers.

from taskgate.checks import check

@check(after="container_start")
def posix_shell(sandbox):
    \"\"\"The image has a working /bin/sh.

    Install a shell, or bring one with a runtime.
    \"\"\"
    if sandbox.sh("true").code:
        yield "no working /bin/sh"
"""

from taskgate.checks._registry import Check, Skip, Warn, check

__all__ = ["Check", "Skip", "Warn", "check"]
