"""Exit statuses, of pytest with --images and of `taskgate`."""

from __future__ import annotations

# Every image is sound, or every agent has finished.
OK = 0
# An image is broken, or an agent or a build failed.
BROKEN = 1
# A mistake in the manifest or the options.
USAGE = 4
# Something has no verdict: infra, missing, or incompatible with this host.
NO_VERDICT = 10
# As shells report SIGINT and SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141
