"""Exit statuses, of pytest with --images and of `taskgate`."""

from __future__ import annotations

# Every image is sound, every agent done.
OK = 0
# Some image is broken, some agent or build failed.
BROKEN = 1
# What was given can't be used.
USAGE = 4
# Of something nothing is known: infra, missing, or incompatible with this host.
NO_VERDICT = 10
# As a shell has it for SIGINT and SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141
