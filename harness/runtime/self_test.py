"""The test of a new bundle: every program and library is started in an empty root, its loader watched."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from taskgate.harness.base.errors import BundleError, InfraError
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.platforms import architecture_of
from taskgate.harness.runtime import volume
from taskgate.harness.runtime.bundle import Bundle
from taskgate.harness.runtime.empty_image import ensure_empty_image

SECONDS = 600
# Run by the bundle's own shell; $1 is the prefix. The loader tells of every file that it tries.
SCRIPT = """
prefix=$1
watch() { echo "== $1"; LD_DEBUG=libs LD_BIND_NOW=1 "$@" 2>&1 </dev/null; echo "== status $?"; }
for file in $(find "$prefix/bin" "$prefix/libexec" -type f); do
  [ "$file" != "$prefix/libexec/busybox" ] || continue
  case $(head -c 4 "$file" | tail -c 3) in ELF) watch "$file" --version ;; esac
done
watch "$prefix/libexec/python3" -c "$2" "$prefix"
"$prefix/bin/git" --version && "$prefix/bin/python3" -c 'import ssl, sqlite3, ctypes, asyncio; print("python works")'
"""
LIBRARIES = """
import ctypes, pathlib, sys
bad = 0
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.so*")):
    if path.is_file() and path.read_bytes()[:4] == b"\\x7fELF" and not path.name.startswith("ld-linux"):
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            bad += 1
            print("== cannot load", path, error)
sys.exit(bad)
"""


def prove(engine: Engine, bundle: Bundle, tar: Path) -> None:
    """Raises BundleError where anything is missing or taken from outside of the prefix, else InfraError."""
    with tar.open("rb") as file:
        volume.fill(engine, bundle, file)
    try:
        output = _run(engine, bundle)
        check(output, bundle.prefix)
    except BaseException:
        engine.remove_volume(volume.name_of(bundle))
        raise


def _run(engine: Engine, bundle: Bundle) -> str:
    temporary = engine.temporary_container(
        ensure_empty_image(engine, architecture_of(bundle.platform)),
        [f"{bundle.prefix}/libexec/busybox", "sh", "-c", SCRIPT, "sh", bundle.prefix, LIBRARIES],
        seconds=SECONDS,
        user="4242:4242",
        binds=[volume.bind(bundle)],
        network_mode="none",
        read_only=True,
        security_opt=["no-new-privileges"],
    )
    try:
        with temporary as container:
            status, output = engine.run_to_end(container, seconds=SECONDS, doing="proving the runtime")
    except InfraError as error:
        if "exec format error" in str(error):
            raise BundleError(
                f"this host can't run {bundle.platform}, so the bundle can't be proven: install qemu-user-static"
            ) from error
        raise
    if status or not output.rstrip().endswith("python works"):
        raise BundleError(f"the bundle does not run in an empty root (status {status}): {output[-2000:]}")
    return output


def check(output: str, prefix: str) -> None:
    """Read the loader's debug output. Raises BundleError."""
    outside = {
        path
        for path in re.findall(r"(?:trying file=|calling init: )(\S+)", output)
        if path.startswith("/") and not _below(path, prefix)
    }
    if outside:
        raise BundleError(f"the bundle looks outside of itself: {', '.join(sorted(outside)[:10])}")
    missing = re.findall(r"^== cannot load .*|.*error while loading shared libraries.*", output, re.M)
    if missing:
        raise BundleError(f"the bundle lacks what it needs: {'; '.join(missing[:10])}")
    if output.count("calling init: ") < 10:
        raise BundleError("the loader printed nothing about what it loaded: nothing is proven")


def _below(path: str, prefix: str) -> bool:
    return posixpath.normpath(path).startswith(f"{prefix}/")
