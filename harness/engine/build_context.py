"""The docker SDK's tools for build contexts: ignore patterns and tars."""

from __future__ import annotations

from docker.utils.build import Pattern, PatternMatcher, create_archive

__all__ = ["Pattern", "PatternMatcher", "create_archive"]
