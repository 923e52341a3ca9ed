"""Failures by check as a bar chart: plain SVG, no script."""

from __future__ import annotations

from taskgate.harness.base import escape

BAR, GAP, LABEL, WIDTH = 18, 6, 150, 420


def bars(counts: dict[str, int]) -> str:
    """An SVG of horizontal bars, largest first; empty text where there is nothing to show."""
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    most = rows[0][1]
    height = len(rows) * (BAR + GAP)
    parts = [
        f'<svg class="tg-chart" role="img" aria-label="Failures by check" width="{LABEL + WIDTH + 60}"'
        f' height="{height}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for number, (name, count) in enumerate(rows):
        top, width = number * (BAR + GAP), max(2, round(WIDTH * count / most))
        middle = top + BAR - 5
        parts.append(
            f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape.html(name)}</text>'
            f'<rect x="{LABEL}" y="{top}" width="{width}" height="{BAR}" rx="3"></rect>'
            f'<text x="{LABEL + width + 6}" y="{middle}">{count}</text>'
        )
    return "".join([*parts, "</svg>"])
