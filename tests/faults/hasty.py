"""A pytest plugin for runs whose engine or registry will not come back: one try more, and answers within seconds.

How long a run waits is not what these tests look at.
"""

from taskgate.harness import engine, gate
from taskgate.harness.registries import client

gate.TRIES, gate.WAIT_SECONDS = 2, 0.1
engine.CALL_SECONDS, engine.PULL_SILENCE_SECONDS = 1, 2
client.READ_SECONDS, client.TRIES, client.PATIENCE_SECONDS, client.WAIT_SECONDS = 2, 2, 2, 0.1
