"""The HTML report of a run: counts, reasons, a time line of the engines, and a row for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

import jinja2

from taskgate.harness.base import escape
from taskgate.harness.runner.run_results import RunRow

GROUPS, IDS = 20, 5
WIDTH, LANE, GAP = 1000.0, 6, 2
# Agents that ran at the same time stand in lanes below each other; more lanes than this say nothing.
MAX_LANES = 60


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that ended alike for the same reason."""

    state: str
    reason: str
    count: int
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Bar:
    """An agent in the time line: place and size in pixels, state, and what a reader sees when pointing at it."""

    x: float
    y: float
    width: float
    state: str
    title: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """An engine's agents."""

    engine: str
    height: int
    bars: list[Bar]


def render(rows: Sequence[RunRow], *, title: str) -> str:
    """The page. Everything in it may be an agent's or an image's text: all of it is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"visible": lambda text: escape.visible(str(text), keep="\n\t"), "clock": clock}
    template = environment.from_string(resources.files("taskgate.reports").joinpath("run.html.j2").read_text("utf-8"))
    costs = [row.cost for row in rows if row.cost is not None]
    calls = [row.calls for row in rows if row.calls is not None]
    return template.render(
        title=title,
        rows=rows,
        counts=Counter(row.state for row in rows).most_common(),
        groups=groups(rows),
        lanes=lanes(rows),
        width=WIDTH,
        lane=LANE,
        seconds=sum(row.seconds for row in rows),
        calls=sum(calls) if calls else None,
        cost=sum(costs) if costs else None,
    )


def groups(rows: Sequence[RunRow]) -> list[Group]:
    """What did not come to a result, by reason, the most common first."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            grouped.setdefault((row.state, row.reason), []).append(row.task_id)
    ordered = sorted(grouped.items(), key=lambda entry: -len(entry[1]))[:GROUPS]
    return [Group(state, reason, len(ids), ids[:IDS]) for (state, reason), ids in ordered]


def lanes(rows: Sequence[RunRow]) -> list[Lanes]:
    """The time line: when which agent ran on which engine."""
    spans = [(start, start + row.seconds, row) for row in rows if row.seconds and (start := _time(row.started))]
    if not spans:
        return []
    first, last = min(start for start, _, _ in spans), max(end for _, end, _ in spans)
    scale = WIDTH / max(last - first, 1e-9)
    engines: dict[str, tuple[list[float], list[Bar]]] = {}
    for start, end, row in sorted(spans, key=lambda span: span[0]):
        free, bars = engines.setdefault(row.engine or "the engine", ([], []))
        lane = next((number for number, until in enumerate(free) if until <= start), len(free))
        if lane == len(free):
            free.append(end)
        free[lane] = end
        if lane < MAX_LANES:
            bars.append(
                Bar(
                    round((start - first) * scale, 1),
                    lane * (LANE + GAP),
                    round(max((end - start) * scale, 0.5), 1),
                    row.state,
                    f"{row.task_id}: {row.state}, {clock(row.seconds)}",
                )
            )
    return [
        Lanes(engine, min(len(free), MAX_LANES) * (LANE + GAP), bars)
        for engine, (free, bars) in sorted(engines.items())
    ]


def clock(seconds: float) -> str:
    """`1:02:03`, or `4.5 s` for less than a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _time(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
