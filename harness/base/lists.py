"""Long lists in messages: the first items, and how many are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shortened(items: Sequence[str], limit: int, show: Callable[[str], str] = str) -> str:
    """The first `limit` items, each as `show` renders it: `a, b and 7 more`."""
    return ", ".join(map(show, items[:limit])) + and_more(len(items), limit, lead=" ")


def and_more(count: int, shown: int, noun: str = "", *, lead: str = "") -> str:
    """`and 7 more`, or `and 7 more reasons` with a noun; empty where all `count` items are shown."""
    if count <= shown:
        return ""
    return f"{lead}and {count - shown:,} more{f' {noun}' if noun else ''}"
