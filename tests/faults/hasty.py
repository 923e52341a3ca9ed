"""A pytest plugin for runs whose engine or registry will not come back: one try more, and answers within seconds.

How long a run waits is not what these tests look at.
"""

from taskgate.harness.engine import connection, images
from taskgate.harness.engine.registries import registry_client
from taskgate.harness.gate import gate

gate.TRIES, gate.WAIT_SECONDS = 2, 0.1
connection.CALL_SECONDS, images.PULL_SILENCE_SECONDS = 1, 2
registry_client.READ_SECONDS, registry_client.TRIES, registry_client.PATIENCE_SECONDS, registry_client.WAIT_SECONDS = (
    2,
    2,
    2,
    0.1,
)
