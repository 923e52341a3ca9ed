"""Task ids as names of folders and as lines of a file."""

from __future__ import annotations

import hashlib
import re

from taskgate.harness.base.out_files import RESERVED

CONFLICT = re.compile(r"(?:<{7}|={7}|>{7}|\|{7})(?:\s|$)")

NAME_BYTES = 200


def folder_name(task_id: str) -> str:
    """The name of a task's folder: its id, escaped where need be (`a/b` becomes `a%2Fb`). Unique per id."""
    name = task_id.replace("%", "%25").replace("/", "%2F").replace("\\", "%5C")
    if name.startswith(".") or name in RESERVED:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name.encode()) > NAME_BYTES:
        cut = name.encode()[: NAME_BYTES - 20].decode("utf-8", "ignore")
        name = f"{cut}%-{hashlib.sha256(task_id.encode()).hexdigest()[:16]}"
    return name
