"""What goes into an image build: the docker SDK's patterns and tars, for those who choose the files."""

from __future__ import annotations

from docker.utils.build import Pattern, PatternMatcher, create_archive

__all__ = ["Pattern", "PatternMatcher", "create_archive"]
