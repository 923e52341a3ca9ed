"""What the benchmarks measured: docs/benchmarks.json, with the machine and the day, and docs/benchmarks.svg."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import docker

DOCS = Path(__file__).resolve().parent.parent / "docs"
FILE = DOCS / "benchmarks.json"
BAR, LABEL, WIDTH = 16, 260, 420


def keep(name: str, command: str, figures: Any) -> None:
    """Write down what `command` measured, under `name`; and draw again what can be drawn."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    client = docker.from_env()
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Docker {client.version()['Version']}",
        "command": command,
    }
    client.close()
    known[name] = {**about, "figures": figures}
    FILE.write_text(json.dumps(known, indent=1) + "\n")
    if "per image" in known:
        (DOCS / "benchmarks.svg").write_text(_plot(known["per image"]["figures"]))


def _plot(rows: list[dict[str, Any]]) -> str:
    """Images per second of each way, a group of bars for each number of workers."""
    most = max(row["images per second"] for row in rows)
    parts, top = [], 8
    workers = None
    for row in rows:
        if row["workers"] != workers:
            workers = row["workers"]
            parts.append(f'<text x="8" y="{top + 12}" font-weight="bold">{workers} at a time, images per second</text>')
            top += 22
        width = max(2, round(WIDTH * row["images per second"] / most))
        colour = "#2f7d4f" if row["way"] == "taskgate" else "#9aa4ad"
        parts.append(
            f'<text x="{LABEL - 8}" y="{top + 12}" text-anchor="end">{row["way"]}</text>'
            f'<rect x="{LABEL}" y="{top}" width="{width}" height="{BAR}" rx="3" fill="{colour}"/>'
            f'<text x="{LABEL + width + 6}" y="{top + 12}">{row["images per second"]:.2f}</text>'
        )
        top += BAR + 6
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 70}" height="{top + 8}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="13">', *parts, "</svg>\n"])
