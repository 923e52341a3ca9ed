"""The seam between taskgate and a cluster engine. An adapter is a class with these methods, found by entry point.

A job is two calls of module-level functions: `fetch`, which brings what is needed to a node, and `work`, which runs on
that same node with the result of `fetch`. Both get plain picklable values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from taskgate.harness.base.errors import InfraError, UsageError

GROUP = "taskgate.clusters"


@dataclass(frozen=True, slots=True)
class Job:
    """`key` is unique within a run. `fetch(payload)` runs first; `work(payload, fetched)` on the same node after it."""

    key: str
    fetch: Callable[[Any], Any]
    work: Callable[[Any, Any], Any]
    payload: Any


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of a job, or why there is none: `error` is what it raised, `lost` that it took its workers along."""

    key: str
    result: Any = None
    error: Exception | None = None
    lost: bool = False
    node: str = ""


class ClusterLost(InfraError):
    """The scheduler is gone: nothing that was submitted will come back."""

    transient = False


class Cluster(Protocol):
    """Used by one thread."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once on the nodes that are there now; at least 1."""
        ...

    def prepare(self, setup: Callable[[Any], None], value: Any) -> None:
        """Call `setup(value)` on every node, those that join later included. Raises UsageError where it refuses."""
        ...

    def broadcast(self, call: Callable[[Any], None], value: Any) -> None:
        """Call `call(value)` once on every node that is there now. Raises InfraError."""
        ...

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ClusterLost."""
        ...

    def completed(self, timeout: float) -> Iterator[Completion]:
        """What has completed; waits for at most `timeout` seconds for the first one. Raises ClusterLost."""
        ...

    def cancel(self) -> None:
        """Drop all jobs that have not begun."""
        ...

    def close(self) -> None: ...


def connect(address: str, *, insecure: bool = False) -> Cluster:
    """The cluster at `address`: `tls://HOST:PORT`, `tcp://…`, a scheduler file, or `local:N`; another adapter's as
    `NAME+ADDRESS`. Raises UsageError for an address that can't be used, InfraError for a cluster that doesn't answer.
    """
    name, plus, rest = address.partition("+")
    if not plus or "/" in name or ":" in name:
        name, rest = "dask", address
    for point in entry_points(group=GROUP):
        if point.name == name:
            cluster: Cluster = point.load()(rest, insecure=insecure)
            return cluster
    known = ", ".join(sorted({point.name for point in entry_points(group=GROUP)}) or ["none"])
    raise UsageError(f"there is no cluster adapter {name!r}; installed: {known}", field="--cluster")
