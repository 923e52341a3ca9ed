"""The directory in which an image starts, as its Dockerfile tells it.

By hand: the Dockerfile is read to know a directory before there is an image; an image that exists is asked itself.
"""

from __future__ import annotations

import posixpath
import re

CONTINUED = re.compile(r"\\[ \t]*\r?\n")
INSTRUCTION = re.compile(r"[ \t]*(FROM|WORKDIR)[ \t]+(.+?)[ \t\r]*", re.I)
FROM = re.compile(r"(?:--\S+[ \t]+)*(?P<base>\S+)(?:[ \t]+AS[ \t]+(?P<stage>\S+))?", re.I)


def workdir(text: str, target: str | None = None) -> str | None:
    """The directory in which `target` (the last stage by default) ends; None where the text alone doesn't tell.

    FROM resets it to that of the base, which is known for an earlier stage alone; a relative WORKDIR is below the one
    before.
    """
    stages: dict[str, str | None] = {}
    names: list[str] = []
    current: str | None = None
    for line in CONTINUED.sub(" ", text).split("\n"):
        if line.lstrip().startswith("#") or not (instruction := INSTRUCTION.fullmatch(line)):
            continue
        if instruction[1].upper() == "FROM":
            if names and target is not None and target.lower() in (names[-1], str(len(names) - 1)):
                break
            stage = FROM.match(instruction[2])
            current = stages.get(stage["base"].lower()) if stage else None
            names.append((stage["stage"] if stage and stage["stage"] else str(len(names))).lower())
        else:
            current = _joined(current, instruction[2].strip("\"'"))
        if names:
            stages[names[-1]] = stages[str(len(names) - 1)] = current
    return current


def _joined(current: str | None, path: str) -> str | None:
    if "$" in path or not (path.startswith("/") or current):
        return None
    return posixpath.normpath(posixpath.join(current or "/", path))
