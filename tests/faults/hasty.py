"""A pytest plugin for runs whose engine or registry will not come back: one try more, and answers within seconds.

How long a run waits is not what these tests look at.
"""

from taskgate.harness import engine, gate

gate.TRIES, gate.WAIT_SECONDS = 2, 0.1
engine.CALL_SECONDS, engine.PULL_SILENCE_SECONDS = 1, 3
