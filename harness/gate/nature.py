"""Why what taskgate brought fails in an image: an older C library, a missing one, a mount that can't be written.

Such an image is incompatible with the runtime; it is not broken. Only failures that name a file of the runtime count:
an image whose own programs fail like that is at fault itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from taskgate.harness.gate.verdict import Record

SYMBOL = re.compile(r"\b((?:GLIBC|GLIBCXX|CXXABI|GCC|LIBC|OPENSSL|ZLIB|NCURSES6?)_[\w.]*\d)\b")
LACKS = re.compile(r"not found|lacks|missing|undefined symbol|does not have|has only", re.I)
RELOCATION = re.compile(r"Error relocating .{1,300}: (\S{1,200}): symbol not found")
LIBRARY = re.compile(
    r"error while loading shared libraries: (\S{1,300}?):|Error loading shared library (\S{1,300}?):"
    r"|(?:missing|lacks the) shared librar(?:y|ies):? (\S{1,300})",
    re.I,
)
LOADER = re.compile(r"\bloader (/\S{1,300}?)[,;:]? (?:is missing|is not there|does not exist)|required file not found")
READ_ONLY = re.compile(r"read-only file system|errno 30\b|\bEROFS\b", re.I)


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """Why the runtime can't work in the image, and what to do about it."""

    reason: str
    hint: str


def of(record: Record, prefix: str) -> Incompatibility | None:
    """What a failure of a program below `prefix` says of the image's nature; None where it is an ordinary failure."""
    output = record.evidence.output if record.evidence else ""
    lines = [*(record.reason or "").splitlines(), *output.splitlines()]
    if not any(prefix in line for line in lines):
        return None
    return _library(lines) or _read_only(lines, prefix)


def _library(lines: list[str]) -> Incompatibility | None:
    what = None
    for line in lines:
        if (symbol := SYMBOL.search(line)) and LACKS.search(line):
            what = f"needs {symbol[1]}, which the image's libraries do not have"
        elif symbol := RELOCATION.search(line):
            what = f"needs the symbol {symbol[1]}, which the image's C library does not have"
        elif library := LIBRARY.search(line):
            what = f"needs the library {next(filter(None, library.groups()))}, which the image does not have"
        elif loader := LOADER.search(line):
            what = f"needs the loader {loader[1] or 'that it names'}, which the image does not have"
        if what:
            return Incompatibility(
                f"what the runtime brings {what}: {line.strip()[:500]}",
                "Build the runtime on a distribution as old as the images, link it statically, or have taskgate make"
                " it (`runtime: {agent: …}`): that one brings its own C library.",
            )
    return None


def _read_only(lines: list[str], prefix: str) -> Incompatibility | None:
    path = re.compile(rf"({re.escape(prefix)}(?:/[^\s'\"`:;,]*)?)")
    for line in lines:
        if READ_ONLY.search(line) and (match := path.search(line)):
            return Incompatibility(
                f"what the runtime brings writes to {match[1]}, which is mounted read-only: {line.strip()[:500]}",
                "Have the agent write elsewhere (TMPDIR, HOME, its work directory), or bring it by"
                " `runtime: {mode: layer}`.",
            )
    return None
