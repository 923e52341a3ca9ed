"""The pre-flight checks: one small file per subject, one decorated function per check.

from taskgate.checks.registry import check

@check(after="container_start")
def posix_shell(box):
    \"\"\"The image has a working /bin/sh.

    Install a shell, or bring one with a runtime.
    \"\"\"
    if box.sh("true").code:
        yield "no working /bin/sh"
"""
