"""Registries over their HTTP API: what they hold, without pulling it."""
