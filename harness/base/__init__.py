"""What everything else builds on: errors, exit codes, atomic files, locks, escaping, redaction, units.

Pure Python: nothing in here talks to an engine."""
