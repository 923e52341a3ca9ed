"""A self-contained Python, git and agent for images that have none: where it comes from, and how it gets in."""
