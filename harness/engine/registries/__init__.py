"""Registries, asked directly over their HTTP API: what is there, without pulling it."""
