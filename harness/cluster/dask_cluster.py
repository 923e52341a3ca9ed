"""dask.distributed behind the seam: one worker process per container engine, threads as slots.

Workers need the resources `pull` and `sandbox`:
`dask worker ADDRESS --nworkers 1 --nthreads 6 --resources "pull=2 sandbox=4"`.
Settings of the scheduler that matter for lost nodes (distributed 2026.8): `distributed.scheduler.allowed-failures: 1`
runs a job once more when its worker dies, then gives up; `distributed.scheduler.worker-ttl: 15s` notices a worker that
stands still, which by default nothing does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.cluster.cluster import ClusterLost, Completion, Job

CONNECT_SECONDS = 30
NODE_SECONDS = 60
SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-ttl": "15s",
    "distributed.admin.tick.limit": "60s",
}
SLOTS = 4
PULLS = 2


class DaskCluster:
    """`address` as `cluster.connect` takes it. `insecure` allows a scheduler without TLS on another host."""

    def __init__(self, address: str, *, insecure: bool = False) -> None:
        """Raises UsageError, InfraError."""
        try:
            import distributed
        except ImportError as error:
            raise UsageError("needs dask: pip install 'taskgate[cluster]'", field="--cluster") from error
        self._local: Any = None
        self._client: Any = None
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._open: dict[str, Any] = {}
        # Jobs that were on workers that died: which one killed them shows when each runs again without the others.
        self._suspects: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._retried: set[str] = set()
        if address.startswith("local:"):
            self._local = _local(address)
            address = self._local.scheduler_address
        elif "://" in address:
            _check_security(address, insecure)
        elif not Path(address).is_file():
            raise UsageError(f"{address!r} is neither an address nor a scheduler file", field="--cluster")
        where = {"scheduler_file": address} if "://" not in address else {"address": address}
        try:
            connect: Any = distributed.Client
            self._client = connect(**where, timeout=CONNECT_SECONDS, name="taskgate", set_as_default=False)
            if "scheduler_file" in where:
                _check_security(str(self._client.scheduler.address), insecure)
            self._client.wait_for_workers(1, timeout=NODE_SECONDS)
        except (OSError, TimeoutError) as error:
            self.close()
            raise InfraError(f"the cluster at {address} does not answer: {error}") from error
        except UsageError:
            self.close()
            raise

    @property
    def slots(self) -> int:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max(1, sum(int(worker.get("resources", {}).get("sandbox", 0)) for worker in workers))

    def prepare(self, setup: Callable[[Any], None], value: Any) -> None:
        from distributed import WorkerPlugin

        class Setup(WorkerPlugin):
            name = "taskgate"

            def setup(self, worker: Any) -> None:
                setup(value)

        refused: dict[str, Any] = self._client.run(_refusal, setup, value)
        if reasons := {node: reason for node, reason in refused.items() if reason}:
            node, reason = next(iter(reasons.items()))
            raise UsageError(f"the worker at {node} can't be used: {reason}", field="--cluster")
        self._client.register_plugin(Setup())

    def broadcast(self, call: Callable[[Any], None], value: Any) -> None:
        try:
            self._client.run(call, value, on_error="ignore")
        except (OSError, TimeoutError) as error:
            raise InfraError(f"the cluster does not answer: {error}") from error

    def submit(self, job: Job) -> None:
        self._check()
        self._jobs[job.key] = job
        suffix = "-again" if job.key in self._retried else ""
        fetched = self._client.submit(
            job.fetch, job.payload, key=f"fetch-{job.key}{suffix}", resources={"pull": 1}, pure=False
        )
        future: Any = self._client.submit(
            job.work, job.payload, fetched, key=f"work-{job.key}{suffix}", resources={"sandbox": 1}, pure=False
        )
        self._open[job.key] = future
        future.add_done_callback(lambda future, key=job.key: self._done.put((key, future)))

    def completed(self, timeout: float) -> Iterator[Completion]:
        wait = timeout
        future: Any
        while True:
            try:
                key, future = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                self._check()
                return
            if key not in self._open or self._open[key] is not future:
                continue
            del self._open[key]
            completion = _completion(key, future)
            # A finished job whose future is held would run again when its worker dies.
            future.release()
            if completion.lost and key not in self._retried:
                self._suspects.append(self._jobs[key])
            else:
                del self._jobs[key]
                wait = 0.0
                yield completion
            self._retry_a_suspect()

    def _retry_a_suspect(self) -> None:
        if self._suspects and not self._retried & self._open.keys():
            job = self._suspects.popleft()
            self._retried.add(job.key)
            self.submit(job)

    def cancel(self) -> None:
        futures = list(self._open.values())
        self._open.clear()
        self._suspects.clear()
        with contextlib.suppress(Exception):
            self._client.cancel(futures)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            if self._client:
                self._client.close(timeout=5)
        with contextlib.suppress(Exception):
            if self._local:
                self._local.close(timeout=10)

    def _check(self) -> None:
        if self._client.status != "running":
            raise ClusterLost("the cluster's scheduler is gone")


def _completion(key: str, future: Any) -> Completion:
    from distributed import KilledWorker

    if future.status == "finished":
        try:
            return Completion(key, result=future.result(timeout=CONNECT_SECONDS))
        except Exception as error:
            # The result went with its worker, and the job's second worker as well.
            return Completion(key, error=error, lost=isinstance(error, KilledWorker))
    if future.status == "error":
        raised = future.exception(timeout=CONNECT_SECONDS)
        return Completion(key, error=raised, lost=isinstance(raised, KilledWorker))
    return Completion(key, error=InfraError(f"the cluster dropped the job ({future.status})"), lost=True)


def _refusal(setup: Callable[[Any], None], value: Any) -> str | None:
    try:
        setup(value)
    except Exception as error:
        return str(error) or type(error).__name__
    return None


def _check_security(address: str, insecure: bool) -> None:
    """Raises UsageError: whoever reaches a scheduler without TLS can run programs on every node."""
    scheme, _, rest = address.partition("://")
    host = rest.rpartition(":")[0].strip("[]")
    if scheme in ("tls", "wss") or insecure or host == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise UsageError(
        f"{address} has no TLS: whoever reaches it can run programs on every node. Use tls://, or --insecure-cluster",
        field="--cluster",
    )


def _local(address: str) -> Any:
    """A scheduler and N worker processes on this machine."""
    import dask
    from distributed import LocalCluster

    text = address.removeprefix("local:")
    if not text.isdecimal() or not 0 < int(text) <= 64:
        raise UsageError(f"{address!r} must be local:N with N from 1 to 64", field="--cluster")
    dask.config.set(SETTINGS)
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=int(text),
        threads_per_worker=SLOTS + PULLS,
        processes=True,
        dashboard_address=None,
        resources={"pull": PULLS, "sandbox": SLOTS},
        silence_logs=50,
    )
