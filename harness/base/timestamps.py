"""Timestamps as records have them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Now, in ISO 8601 with milliseconds: `2026-01-31T12:00:00.000+00:00`. Such strings sort by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
