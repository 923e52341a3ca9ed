"""Variables in the files of compose and Harbor: `${NAME}`, `${NAME:-default}` and their kin.

Source: the Compose Specification, 12-interpolation.md. Nothing is taken from this host's environment: it may hold
secrets, and a task set does not get to choose among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
# A default may hold one more variable, `${A:-${B}}`.
REFERENCE = re.compile(
    rf"\$(?:(?P<escaped>\$)|(?P<plain>{NAME})|\{{(?P<name>{NAME})(?:(?P<sign>:?[-+?])(?P<rest>(?:[^{{}}]|\{{[^{{}}]*\}})*))?\}})"
)


def interpolated(text: str, variables: Mapping[str, str]) -> str | None:
    """The text with its variables replaced; None where one of them has no value here."""
    parts, end = [], 0
    for match in REFERENCE.finditer(text):
        value = "$" if match["escaped"] else _value(match, variables)
        if value is None:
            return None
        parts += [text[end : match.start()], value]
        end = match.end()
    return "".join([*parts, text[end:]])


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str | None:
    name, sign, rest = match["name"] or match["plain"], match["sign"] or "", match["rest"] or ""
    value = variables.get(name)
    counts_as_set = value is not None and (bool(value) or not sign.startswith(":"))
    if sign.endswith("+"):
        return interpolated(rest, variables) if counts_as_set else ""
    if counts_as_set:
        return value
    return interpolated(rest, variables) if sign.endswith("-") else None
