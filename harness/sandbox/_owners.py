"""Whose files in a container are: of those that are there already, and of users by their names."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from typing import Any

from taskgate.harness.base.errors import InfraError, UserNotFound
from taskgate.harness.engine import archive_api
from taskgate.harness.sandbox._pack import Attributes
from taskgate.harness.sandbox.execute import execute

# Of names in one command; the kernel takes 2 MiB of arguments.
BATCH_BYTES, BATCH_NAMES = 100_000, 500
ACCOUNTS_BYTES = 4 << 20
# A character for each name, 1 if something is there, then a line for each that is.
_STAT = """
cd -- "$1" || exit 1
shift
count=$#
while [ "$count" -gt 0 ]; do
  name=$1 count=$((count - 1))
  shift
  if [ -e "$name" ] || [ -L "$name" ]; then printf 1; set -- "$@" "$name"; else printf 0; fi
done
echo
[ $# = 0 ] || stat -c '%u %g %a' -- "$@"
"""


def existing_attributes(container: Any, dest: str, names: list[str]) -> dict[str, Attributes]:
    """Owners and modes of what is there already, of `names` below `dest` (empty: `dest` itself).

    By the container's own `stat` if it runs and has one, else from the tar of all that is there. Raises InfraError.
    """
    owners: dict[str, Attributes] = {}
    folder, base = posixpath.split(dest)
    paths = {posixpath.join(base, name) if name else base: name for name in names}
    for batch in _batches(list(paths)):
        known = _by_stat(container, folder, batch)
        if known is None:
            return _by_tar(container, dest, set(names))
        owners.update({paths[path]: attributes for path, attributes in known.items()})
    return owners


def _batches(paths: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for path in paths:
        length = len(path.encode("utf-8", "surrogateescape")) + 1
        if batch and (size + length > BATCH_BYTES or len(batch) >= BATCH_NAMES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    yield batch


def _by_stat(container: Any, folder: str, paths: list[str]) -> dict[str, Attributes] | None:
    if any("\udc80" <= character <= "\udcff" for path in paths for character in path):
        # JSON can't carry a name that is not UTF-8.
        return None
    names = [f"./{path}" for path in paths]
    try:
        done = execute(container, ["/bin/sh", "-c", _STAT, "sh", folder, *names], user="0", timeout=60)
    except InfraError:
        # It does not run.
        return None
    there, _, lines = done.stdout.decode("ascii", "replace").partition("\n")
    present = [path for path, flag in zip(paths, there, strict=False) if flag == "1"]
    rows = [line.split() for line in lines.splitlines()]
    if done.exit_code or done.stopped or len(there) != len(paths) or len(rows) != len(present):
        return None
    try:
        return {
            path: Attributes(int(uid), int(gid), int(mode, 8) & 0o7777)
            for path, (uid, gid, mode) in zip(present, rows, strict=True)
        }
    except ValueError:
        return None


def _by_tar(container: Any, dest: str, names: set[str]) -> dict[str, Attributes]:
    owners: dict[str, Attributes] = {}
    try:
        with archive_api.tar(container.client.api, container.id, dest) as tar:
            for member in tar:
                name = posixpath.normpath(member.name).partition("/")[2]
                if name in names:
                    owners[name] = Attributes(member.uid, member.gid, member.mode & 0o7777)
                if len(owners) == len(names):
                    break
    except (FileNotFoundError, tarfile.TarError):
        pass
    return owners


def owner_ids(container: Any, owner: str) -> tuple[int, int]:
    """The uid and gid of `NAME`, `UID`, `NAME:GROUP` or `UID:GID`, by the container's own /etc/passwd and /etc/group.

    A number that no account has is its own group's number as well. Raises UserNotFound, InfraError.
    """
    name, colon, group = owner.partition(":")
    accounts = _accounts(container, "/etc/passwd") if not name.isdecimal() or not colon else []
    account = next((fields for fields in accounts if len(fields) > 3 and name in (fields[0], fields[2])), None)
    if account and account[2].isdecimal() and account[3].isdecimal():
        uid, gid = int(account[2]), int(account[3])
    elif name.isdecimal():
        uid = gid = int(name)
    else:
        raise UserNotFound(f"the container has no user {name!r}", exit_code=126)
    if not colon:
        return uid, gid
    if group.isdecimal():
        return uid, int(group)
    for fields in _accounts(container, "/etc/group"):
        if len(fields) > 2 and fields[0] == group and fields[2].isdecimal():
            return uid, int(fields[2])
    raise UserNotFound(f"the container has no group {group!r}", exit_code=126)


def _accounts(container: Any, path: str) -> list[list[str]]:
    try:
        with archive_api.tar(container.client.api, container.id, path) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member and member.isreg() else None
            text = file.read(ACCOUNTS_BYTES).decode("utf-8", "replace") if file else ""
    except (FileNotFoundError, tarfile.TarError):
        return []
    return [line.split(":") for line in text.splitlines()]
