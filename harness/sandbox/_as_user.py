"""Files of a container read and written as one of its users, so that its kernel decides what that user may.

Needs /bin/sh in the container, and `cat`, `mkdir`, `tar`, `mv`, `cp` and `rm` for what they do.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import IO, Any, cast

from taskgate.harness.base import escape
from taskgate.harness.base.errors import (
    PathIsDirectory,
    PathNotDirectory,
    PathNotFound,
    PathNotPermitted,
    PathTooLarge,
    TransferError,
)
from taskgate.harness.sandbox.execute import Executed, execute

# Coreutils, BusyBox and shells alike use the C library's texts.
_KINDS: tuple[tuple[re.Pattern[str], type[TransferError]], ...] = (
    (re.compile(r"permission denied|operation not permitted|read-only file system", re.I), PathNotPermitted),
    (re.compile(r"is a directory", re.I), PathIsDirectory),
    (re.compile(r"not a directory|file exists", re.I), PathNotDirectory),
    (re.compile(r"no such file|nonexistent directory|not found", re.I), PathNotFound),
)
_SPECIAL = 'if [ -e "$1" ] && [ ! -f "$1" ] && [ ! -d "$1" ]; then echo "not a regular file" >&2; exit 1; fi\n'
_READ = _SPECIAL + 'exec cat -- "$1"'
# An existing file keeps its owner and mode. Written in place: another name could not take them over.
# Podman loses the messages of a command that leaves some of its stdin unread, hence the trap.
_DRAIN = "trap 'cat >/dev/null' EXIT\n"
_WRITE = (
    _DRAIN
    + _SPECIAL
    + """[ ! -d "$1" ] || { echo "Is a directory" >&2; exit 1; }
case $1 in */*) mkdir -p -- "${1%/*}/" || exit 1 ;; esac
cat >"$1" || exit 1
[ -z "$2" ] || chmod -- "$2" "$1"
"""
)
# A new folder appears in one piece. What is merged is copied, so that existing files keep their owners and modes.
_UNPACK = (
    _DRAIN
    + """
parent=${1%/*}/ stage=${1%/*}/$2
mkdir -p -- "$parent" && (umask 077 && mkdir -- "$stage") || exit 1
trap 'rm -rf -- "$stage"; cat >/dev/null' EXIT
tar -x -p -o -f - -C "$stage" || exit 1
umask 0
if [ -d "$1" ]; then
  cp -RP -- "$stage/x/." "$1/"
elif [ -e "$1" ]; then
  echo "Not a directory" >&2; exit 1
else
  mv -- "$stage/x" "$1"
fi
"""
)


def read(container: Any, path: str, user: str, limit: int) -> bytes:
    """Raises PathNotFound, PathNotPermitted, PathIsDirectory, PathTooLarge, TransferError, InfraError."""
    # The error comes after the content, and has to fit as well.
    done = _run(container, _READ, [path], user, limit=limit + 4096)
    if done.stopped or len(done.stdout) > limit:
        raise PathTooLarge(f"{path} has more than {limit:,} bytes")
    _check(done, path)
    return done.stdout


def write(container: Any, path: str, data: bytes | IO[bytes], user: str, mode: int | None) -> None:
    """Raises PathNotPermitted, PathIsDirectory, PathNotDirectory, TransferError, InfraError."""
    _check(_run(container, _WRITE, [path, "" if mode is None else f"{mode:o}"], user, stdin=data), path)


def unpack(container: Any, path: str, tar: Iterator[bytes], user: str) -> None:
    """Unpack a tar whose only top folder is `x` as the folder `path`. Raises as `write`."""
    stage = f".taskgate-{secrets.token_hex(8)}"
    _check(_run(container, _UNPACK, [path, stage], user, stdin=cast(IO[bytes], _Reader(tar))), path)


def _run(container: Any, script: str, args: list[str], user: str, **more: Any) -> Executed:
    argv = ["/bin/sh", "-c", script, "sh", *args]
    return execute(container, argv, user=user, environment={"LC_ALL": "C"}, **more)


def _check(done: Executed, path: str) -> None:
    if done.start_error:
        raise done.start_error
    if not done.exit_code:
        return
    message = done.stderr.decode("utf-8", "replace").strip()
    last = message.splitlines()[-1] if message else f"status {done.exit_code}"
    text = last.replace(path, "")
    kind = next((kind for pattern, kind in _KINDS if pattern.search(message.replace(path, ""))), TransferError)
    reason = done.stopped or escape.line(text.lstrip(":' ") or last, 500)
    raise kind(f"{escape.line(path, 1000)}: {reason}")


class _Reader:
    """An iterator of pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")
