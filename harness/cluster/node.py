"""A node of a cluster: one process with one container engine, whose threads judge tasks.

Everything here runs in the cluster's worker processes, called through `cluster.Job`. Nothing is written on a node: the
records go back to the controller.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from taskgate.checks import _registry as registry
from taskgate.harness.base.errors import InfraError, TaskgateError, UsageError
from taskgate.harness.cluster.cluster import Job
from taskgate.harness.engine import reaper
from taskgate.harness.engine.client import Engine, first_engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.image_provider import DiskLimit
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.verdict import Record
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task

MAX_UPLOAD = 512 << 20


@dataclass(frozen=True)
class NodeSetup:
    """What the controller gives every node.

    `versions` maps the checks' names to their versions, `folders` are those of `--check-path`, `uploads` maps a path of
    the controller's host to a tar of what is there.
    """

    session: str
    version: str
    versions: Mapping[str, str]
    folders: tuple[str, ...] = ()
    docker_hosts: tuple[str, ...] = ()
    disk_budget: int | None = None
    wanted: Mapping[str, int] = field(default_factory=dict)
    uploads: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Payload:
    """A task, and what is known of it from before."""

    task: Task
    cached: Record | None = None
    entry: Entry | None = None


class OneVerdict:
    """The controller's verdict cache, as far as one task goes."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def get(self, task_id: str, digest: str, fingerprint: str) -> Record | None:
        same = (self._record.digest, self._record.fingerprint) == (digest, fingerprint)
        return replace(self._record, cached=True) if same else None

    def remembers(self, task_id: str, fingerprint: str) -> bool:
        return self._record.fingerprint == fingerprint


class Node:
    """One per worker process."""

    def __init__(self, setup: NodeSetup) -> None:
        """Raises UsageError where this node is not like the controller."""
        self.setup = setup
        self._checks = _checks(setup)
        self._threads = threading.local()
        self._gates: list[Gate] = []
        self._folder = tempfile.TemporaryDirectory(prefix="taskgate-node-")
        _reap(setup.docker_hosts, None)
        self._paths = {path: _unpack(data, Path(self._folder.name)) for path, data in setup.uploads.items()}

    @property
    def gate(self) -> Gate:
        """This thread's gate."""
        if not hasattr(self._threads, "gate"):
            setup = self.setup
            limit = DiskLimit(setup.disk_budget, setup.wanted) if setup.disk_budget is not None else None
            self._threads.known = KnownVerdicts()
            self._threads.gate = Gate(
                lambda: first_engine(setup.docker_hosts or [None]),
                self._checks,
                session=setup.session,
                known=self._threads.known,
                disk=limit,
            )
            self._gates.append(self._threads.gate)
        gate: Gate = self._threads.gate
        return gate

    def fetch(self, payload: Payload) -> None:
        """Have the image here. What goes wrong is found out again, and explained, by `judge`."""
        try:
            self.gate.fetch(self._local(payload.task))
        except TaskgateError:
            return

    def judge(self, payload: Payload) -> Record:
        gate = self.gate
        self._threads.known.know(
            OneVerdict(payload.cached) if payload.cached else None,
            {payload.entry.task_id: payload.entry} if payload.entry else {},
        )
        return gate.judge(self._local(payload.task))

    def close(self) -> None:
        for gate in self._gates:
            gate.close()
        _reap(self.setup.docker_hosts, self.setup.session)
        self._folder.cleanup()

    def _local(self, task: Task) -> Task:
        """The task with the paths of this node in place of the controller's."""
        if task.runtime is None or not self._paths:
            return task
        return replace(task, runtime=_renamed(task.runtime, self._paths))


_node: Node | None = None
_lock = threading.Lock()


def start(setup: NodeSetup) -> None:
    """Make this process a node of the controller's run, in place of any run before. Raises UsageError."""
    global _node
    with _lock:
        if _node and _node.setup.session == setup.session:
            return
        if _node:
            _node.close()
            _node = None
        _node = Node(setup)


def stop(session: str) -> None:
    """The run is over."""
    global _node
    with _lock:
        if _node and _node.setup.session == session:
            _node.close()
            _node = None


def job(payload: Payload, key: str) -> Job:
    return Job(key, _fetch, _judge, payload)


def setup_of(
    session: str,
    tasks: Iterable[Task],
    checks: Iterable[registry.Check],
    *,
    folders: Iterable[Path] = (),
    docker_hosts: Iterable[str] = (),
    disk_budget: int | None = None,
) -> NodeSetup:
    """What every node needs to judge these tasks as this process would. Raises UsageError for files too large."""
    tasks = list(tasks)
    paths = sorted({path for task in tasks if task.runtime for path in _paths_of(task.runtime)})
    uploads = {path: _pack(Path(path)) for path in paths}
    if sum(map(len, uploads.values())) > MAX_UPLOAD:
        raise UsageError(f"the runtimes' files are larger than {MAX_UPLOAD >> 20} MiB; build an image of them instead")
    return NodeSetup(
        session=session,
        version=metadata.version("taskgate"),
        versions={check.name: check.version for check in checks},
        folders=tuple(str(folder) for folder in folders),
        docker_hosts=tuple(docker_hosts),
        disk_budget=disk_budget,
        wanted=Counter(task.image for task in tasks) if disk_budget is not None else {},
        uploads=uploads,
    )


def _fetch(payload: Payload) -> None:
    _this().fetch(payload)


def _judge(payload: Payload, fetched: None) -> Record:
    return _this().judge(payload)


def _this() -> Node:
    if _node is None:
        raise InfraError("this worker was not set up by the controller")
    return _node


def _reap(hosts: Iterable[str], session: str | None) -> None:
    """Remove what killed runs left on this node's engines, and what this session did."""
    urls: list[str | None] = [*hosts]
    for url in urls or [None]:
        with contextlib.suppress(InfraError):
            engine = Engine(url)
            try:
                reaper.reap(engine, session)
            finally:
                engine.close()


def _checks(setup: NodeSetup) -> list[registry.Check]:
    own = metadata.version("taskgate")
    if own != setup.version:
        raise UsageError(f"it has taskgate {own}, and the controller {setup.version}")
    loaded = {check.name: check for check in registry.load(tuple(map(Path, setup.folders)))}
    other = [name for name, version in setup.versions.items() if name not in loaded or loaded[name].version != version]
    if other:
        raise UsageError(f"its checks differ from the controller's: {', '.join(sorted(other)[:10])}")
    return [check for name, check in loaded.items() if name in setup.versions]


def _paths_of(runtime: Runtime) -> list[str]:
    return [path for path in (runtime.requirements, runtime.agent, runtime.directory, runtime.tar) if path]


def _renamed(runtime: Runtime, paths: Mapping[str, str]) -> Runtime:
    changes: dict[str, Any] = {
        name: paths[path]
        for name in ("requirements", "agent", "directory", "tar")
        if (path := getattr(runtime, name)) in paths
    }
    return replace(runtime, **changes)


def _pack(path: Path) -> bytes:
    """A tar of a file or a folder, the same bytes for the same files."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return None if member.name.endswith(("__pycache__", ".pyc")) else member

    out = io.BytesIO()
    try:
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(path, path.name, filter=plain)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", field="runtime") from error
    return out.getvalue()


def _unpack(data: bytes, folder: Path) -> str:
    """Where the controller's file or folder is on this node."""
    target = folder / hashlib.sha256(data).hexdigest()[:16]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(target, filter="data")
    (only,) = target.iterdir()
    return str(only)
