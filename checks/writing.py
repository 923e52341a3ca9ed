"""Shared by the checks of directories; declares none."""

from taskgate.harness.box import Box
from taskgate.harness.shell import Result

# Builtins only but for the removal: an image may lack every other tool. `set -C` never follows or overwrites.
WRITE = """
file="$1/.taskgate-$$-probe"
set -C
echo ok >"$file" || exit 1
read -r said <"$file"
rm -f -- "$file" 2>/dev/null
[ "$said" = ok ]
"""


def try_write(box: Box, path: str) -> Result:
    """Write, read back and remove a file in `path`; exit status 0 if that worked."""
    return box.sh(WRITE, path)
