"""The names of the files below --out."""

from __future__ import annotations

# Of the gate: a record a line as they come; all of them at the end; what the next run need not find out again.
JOURNAL, VERDICTS, CACHE = "journal.jsonl", "verdicts.json", "cache.jsonl"
# Of a run, beside its journal: the tasks, the settings.
MANIFEST, RUN = "manifest.yaml", "run.json"
# Of a task in a run: what its agent left.
TRAJECTORY, PREDICTION = "trajectory.json", "prediction.json"
# What taskgate records of it: how it ended, while it runs, what it printed, its network, its calls to the endpoint.
RESULT, ATTEMPT, LOG, ISOLATION, CALLS = "result.json", "attempt.json", "agent.log", "isolation.json", "calls.jsonl"
# The reports of a run.
REPORT, JUNIT = "report.html", "junit.xml"
# No task's folder can have these names, and no agent's file those.
RESERVED = {MANIFEST, JOURNAL, RUN, REPORT, JUNIT}
EVIDENCE = {RESULT, ATTEMPT, LOG, ISOLATION, CALLS, "attempts"}
