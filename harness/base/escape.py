"""Makes untrusted text (from an image, a registry or a manifest) safe to show."""

from __future__ import annotations

import html as _html
import re
import unicodedata

# Cc: controls; Cf: invisible and bidirectional formatting; Cs, Zl, Zp: what breaks lines or encodings.
_RISKY = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# CI systems read commands from output: `##[add-mask]` anywhere in a line, `::add-mask::` at its start.
_ANYWHERE = re.compile(r"#(?=#[\w-]*\[)")
_COMMAND = re.compile(rf"{_ANYWHERE.pattern}|^\s*:(?=:)")


def visible(text: str, *, keep: str = "") -> str:
    """Control and formatting characters escaped as `\\x1b`, but for those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _RISKY else _spelled(c) for c in text)


def line(text: str, limit: int = 200) -> str:
    """One line for a terminal, cut at `limit` characters."""
    shown = _tame(" ".join(text.split()))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def message(text: str) -> str:
    """Several lines for a terminal; none of them can be read as a CI command."""
    return "\n".join(map(_tame, text.splitlines()))


def output(text: str) -> str:
    """Output of an image for a terminal. The prefix tells its lines from ours; none can be read as a CI command."""
    return "\n".join(f"| {_tame(part)}" for part in text.splitlines())


def commanding(text: str) -> bool:
    """Can a CI system read a command from it, wherever it stands in a line?"""
    return _ANYWHERE.search(text) is not None


def html(text: str) -> str:
    """For HTML text and quoted attributes."""
    return _html.escape(visible(text, keep="\n\t"))


def markdown(text: str, limit: int = 200) -> str:
    """For a cell of a Markdown table."""
    return "".join(f"&#{ord(c)};" if c in "|<>&`*_[]()\\!#~@" else c for c in line(text, limit))


def _tame(part: str) -> str:
    return _COMMAND.sub(_tamed, visible(part))


def _tamed(match: re.Match[str]) -> str:
    return "".join(_spelled(c) if c in "#:" else c for c in match[0])


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
