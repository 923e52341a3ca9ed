"""What the plugin keeps in pytest's configuration and items."""

from __future__ import annotations

import pytest

from taskgate.harness.gate.replay import Replay
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.plugin.cluster_loop import ClusterLoop
from taskgate.harness.plugin.options import Settings
from taskgate.harness.tasks.task import Task

SETTINGS = pytest.StashKey[Settings]()
SKIPS = pytest.StashKey[dict[str, Entry]]()
# The run's id, the same in the controller and its workers.
SESSION = pytest.StashKey[str]()
REPLAY = pytest.StashKey[Replay]()
CLUSTER = pytest.StashKey[ClusterLoop]()
# Of an item: the task whose image is needed after this one.
FOLLOWING = pytest.StashKey[Task | None]()
