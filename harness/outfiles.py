"""What a run of the gate leaves in its --out folder."""

from __future__ import annotations

# A record a line as they come; all of them at the end; what the next run need not find out again.
JOURNAL, VERDICTS, CACHE = "journal.jsonl", "verdicts.json", "cache.jsonl"
