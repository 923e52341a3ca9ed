"""A task's .dockerignore: which files of its folder go into a build, in time that its patterns have no say in.

The docker SDK reads whatever has that name, and makes expressions of patterns that may take years.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from taskgate.harness.base.errors import ManifestError
from taskgate.harness.engine import build_context as contexts
from taskgate.harness.tasks import yaml_tree

NAME = ".dockerignore"
TOKEN = re.compile(r"\*\*/?|\*|\[!?+\]?+[^\]]*+\]|.", re.S)
MOST_BYTES, MOST_PATTERNS, PATTERN_CHARS = 64 << 10, 1000, 1000


def files(context: Path, dockerfile: str) -> list[str]:
    """What is sent of a folder, in order. Raises ManifestError for patterns that can't be used, OSError."""
    matcher = contexts.PatternMatcher([])
    # The Dockerfile and the file of patterns themselves are always sent.
    patterns = [_Pattern(line) for line in [*_lines(context / NAME), f"!{dockerfile}", f"!{NAME}"]]
    matcher.patterns = [pattern for pattern in patterns if pattern.dirs]
    return sorted(set(matcher.walk(str(context.absolute()))))


def _lines(file: Path) -> list[str]:
    if not os.path.lexists(file):
        return []
    text = yaml_tree.read(file, most=MOST_BYTES, regular=True).decode("utf-8-sig", "surrogateescape")
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if len(lines) > MOST_PATTERNS or any(len(line) > PATTERN_CHARS for line in lines):
        message = f"holds more than {MOST_PATTERNS} patterns, or one of more than {PATTERN_CHARS} characters"
        raise ManifestError(message, file=str(file))
    return lines


class _Pattern(contexts.Pattern):
    """Matches what the SDK's does, without its way back: a `*` that has found what follows it looks no further."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        try:
            self._form = re.compile(expression(self.cleaned_pattern.lower()), re.S)
        except re.error as error:
            raise ManifestError(f"the pattern {text!r} can't be read: {error}", file=NAME) from error

    def match(self, filepath: str) -> bool:
        return self._form.fullmatch(filepath.lower()) is not None


def expression(pattern: str) -> str:
    """A regular expression. What stands between two wildcards is found where it first occurs, and that is final."""
    parts: list[list[str]] = [[""]]
    for sign in TOKEN.findall(pattern):
        if sign.startswith("**"):
            parts.append([""])
        elif sign == "*":
            parts[-1].append("")
        else:
            parts[-1][-1] += _single(sign)
    built = _within(parts[0], final=len(parts) == 1)
    for part in parts[1:-1]:
        built += f"(?>(?:.*?/)??{_within(part)})"
    if len(parts) > 1:
        built += ".*" if parts[-1] == [""] else f"(?:.*?/)??{_within(parts[-1], final=True)}"
    return built


def _within(pieces: list[str], *, final: bool = False) -> str:
    """What `*` divides. The last piece of all stands at the end of the name."""
    first, *rest = pieces
    last = rest.pop() if rest and final else None
    built = first + "".join(f"(?>[^/]*?{piece})" for piece in rest)
    return built if last is None else f"{built}[^/]*{last}"


def _single(sign: str) -> str:
    """What stands for one character."""
    if sign == "?":
        return "[^/]"
    if len(sign) == 1:
        return re.escape(sign)
    negated = sign.startswith("[!")
    listed = re.sub(r"([\\\[\]^&|~])", r"\\\1", sign[1 + negated : -1])
    return f"(?!/)[{'^' if negated else ''}{listed}]"
