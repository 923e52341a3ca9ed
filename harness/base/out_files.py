"""The names of the files below --out."""

from __future__ import annotations

# Of the gate: records, one a line, as they come; all of them at the end; verdicts that the next run can reuse.
JOURNAL, VERDICTS, CACHE = "journal.jsonl", "verdicts.json", "cache.jsonl"
# Of a run, beside its journal: the tasks, the settings.
MANIFEST, RUN = "manifest.yaml", "run.json"
# Of a task in a run: what its agent wrote.
TRAJECTORY, PREDICTION = "trajectory.json", "prediction.json"
# What taskgate records of it: its result, its state while it runs, its output, its isolation, its endpoint calls.
RESULT, ATTEMPT, LOG, ISOLATION, CALLS = "result.json", "attempt.json", "agent.log", "isolation.json", "calls.jsonl"
# The reports of a run.
REPORT, JUNIT = "report.html", "junit.xml"
# Names that no task's folder may have, and names that no file of an agent may have.
RESERVED = {MANIFEST, JOURNAL, RUN, REPORT, JUNIT}
EVIDENCE = {RESULT, ATTEMPT, LOG, ISOLATION, CALLS, "attempts"}
