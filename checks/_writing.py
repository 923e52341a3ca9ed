"""Shared by the checks of directories; declares none."""

import secrets

from taskgate.harness.base.errors import NoSpace
from taskgate.harness.sandbox.sandbox import Sandbox
from taskgate.harness.sandbox.shell import Result

# ENOSPC; not every shell says so when its echo fails.
FULL = 28
# Builtins only but for the removal: an image may lack every other tool. `set -C` never follows or overwrites.
WRITE = """
export LC_ALL=C
file="$1/.taskgate-$2"
set -C
echo ok >"$file" || { [ -e "$file" ] || exit 1; rm -f -- "$file" 2>/dev/null; exit 28; }
read -r content <"$file"
rm -f -- "$file" 2>/dev/null
[ "$content" = ok ]
"""


def try_write(sandbox: Sandbox, path: str) -> Result:
    """Write, read back and remove a file in `path`; exit status 0 if that worked. Raises NoSpace."""
    tried = sandbox.sh(WRITE, path, secrets.token_hex(8))
    if tried.code == FULL:
        raise NoSpace(f"a file can be made in {path}, and nothing written to it: no space left on the engine's disk")
    return tried
