"""The name under which 0.1 offered `check`, `Skip` and `Warn`; import them from `taskgate.checks`."""

from taskgate.checks._registry import Skip, Warn, check

__all__ = ["Skip", "Warn", "check"]
