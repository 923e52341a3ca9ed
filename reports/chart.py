"""Failures by check as a bar chart: plain SVG, no script."""

from __future__ import annotations

from taskgate.reports.templating import render

HEIGHT, GAP, LABEL, WIDTH = 18, 6, 150, 420


def bars(counts: dict[str, int]) -> str:
    """An SVG of horizontal bars, largest first; empty text if there is nothing to show."""
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    most = rows[0][1]
    drawn = [
        {"name": name, "count": count, "top": number * (HEIGHT + GAP), "width": max(2, round(WIDTH * count / most))}
        for number, (name, count) in enumerate(rows)
    ]
    return render("chart.svg", bars=drawn, label=LABEL, width=WIDTH, height=HEIGHT, pitch=HEIGHT + GAP)
