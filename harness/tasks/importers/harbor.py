"""Harbor and Terminal-Bench 2: a folder with a task.toml, folders of them, a dataset.toml beside them, a registry.json.

Source: the package `harbor` 0.25.0: models/task/config.py, models/dataset/manifest.py, models/registry.py,
environments/docker/docker.py, environments/definition.py, trial/network_policy.py and utils/env.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import dockerfiles
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

TASK, DATASET, REGISTRY = "task.toml", "dataset.toml", "registry.json"
SERVICE = "main"
# With an allow-list, what it names is the endpoint of a run: nothing else is let through.
NETWORKS = {"public": "bridge", "no-network": "none", "allowlist": "none"}
SYSTEMS = {"linux": "linux/amd64", "windows": "windows/amd64"}
MIB = 1 << 20
MAX_BYTES = 4 << 20
DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
# The whole value, as Harbor has it: in any other, a `$` is a `$`.
TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}", re.S)
# A key of so many parts, `a.b.c`.
MANY_PARTS = re.compile(rb"(?<![\w-])(?:(?:[\w-]++|\"[^\"\n]*\"|'[^'\n]*')[ \t]*\.[ \t]*){32}")
KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table", list: "a list"}


def recognises(source: Source) -> bool:
    path = source.path
    if path.name in (TASK, DATASET):
        return path.is_file()
    if path.name == REGISTRY:
        return '"tasks"' in yaml_tree.glimpse(path)
    return path.is_dir() and bool((path / TASK).is_file() or (path / DATASET).is_file() or any(path.glob(f"*/{TASK}")))


def load(source: Source) -> Iterator[Row]:
    """The rows, by folder; of a registry, those of the dataset that `dataset` names. Raises UsageError."""
    if source.path.name == REGISTRY:
        for folder, name in _registered(source):
            task = _Task(source, folder)
            yield task.row(name)
        return
    path = source.path if source.path.is_dir() else source.path.parent
    wanted = _listed(source, path / DATASET) if (path / DATASET).is_file() and source.path.name != TASK else None
    folders = [path] if (path / TASK).is_file() else [file.parent for file in sorted(path.glob(f"*/{TASK}"))]
    seen = set()
    for folder in folders:
        task = _Task(source, folder)
        name = task.name
        if wanted is not None and not wanted & {name, name.rpartition("/")[2]}:
            continue
        seen.update({name, name.rpartition("/")[2]})
        yield task.row(name)
    if wanted is not None and (missing := sorted(name for name in wanted if name not in seen)):
        raise source.fail(
            f"names tasks that are not beside it: {', '.join(missing[:5])}", file=path / DATASET, field="tasks"
        )
    if not seen:
        raise source.fail(f"no tasks of Harbor: expected {TASK} in it, or in its folders")


@dataclass(frozen=True)
class _Table:
    """A table of a TOML file, `name` as errors call it."""

    source: Source
    file: Path
    content: Mapping[str, Any]
    name: str = ""

    def table(self, key: str) -> _Table:
        """A table in it; an empty one where it is not there. Raises UsageError."""
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            raise self.source.fail("must be a table", file=self.file, field=self._called(key))
        return _Table(self.source, self.file, value, self._called(key))

    def tables(self, key: str) -> list[_Table]:
        """The tables of a list. Raises UsageError."""
        value = self.content.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.source.fail("must be a list of tables", file=self.file, field=self._called(key))
        return [
            _Table(self.source, self.file, item, f"{self._called(key)}[{number}]") for number, item in enumerate(value)
        ]

    def get(self, key: str, *kinds: type) -> Any:
        """A value of one of these types; None where it is not given. Raises UsageError."""
        value = self.content.get(key)
        if value is None or (isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)):
            return value
        raise self.fail(f"must be {' or '.join(KINDS[kind] for kind in kinds)}", key)

    def fail(self, problem: str, key: str) -> Exception:
        return self.source.fail(problem, file=self.file, field=self._called(key))

    def _called(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


class _Task:
    """One folder with a task.toml."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source, self._folder, self._file = source, folder, folder / TASK
        self._top = _Table(source, self._file, _toml(source, self._file))
        self._agent, self._environment = self._top.table("agent"), self._top.table("environment")
        self._steps = self._top.tables("steps")
        self.name: str = self._top.table("task").get("name", str) or folder.name

    def row(self, name: str) -> Row:
        """Raises UsageError."""
        environment, folder = self._environment, self._folder / "environment"
        network = self._network()
        # A link could make a context of all that is above.
        if folder.is_symlink():
            raise self._source.fail("must be a folder of the task's own", file=folder)
        image = environment.get("docker_image", str)
        env = self._env()
        container = dockerfiles.find(self._source, folder, SERVICE, image=image, variables=env, implicit=True)
        if environment.get("tpu", dict):
            container.unsupported["environment.tpu"] = "TPUs are not supported"
        container.check()
        inner = container.fields
        fields = {
            **inner,
            "id": name,
            "image": container.image,
            "repo_path": None,
            "workdir": environment.get("workdir", str) or inner.get("workdir"),
            # What either closes is closed.
            "network": inner.get("network") or network,
            "user": _as_text(self._agent.get("user", str, int)) or inner.get("user"),
            "env": {**inner.get("env", {}), **env},
            "limits": {**inner.get("limits", {}), **self._limits()},
            "gpus": self._gpus() or inner.get("gpus"),
            "budget": self._budget(),
            "platform": self._platform() or inner.get("platform") or SYSTEMS["linux"],
            "healthcheck": _healthcheck(environment) or inner.get("healthcheck"),
            "upload": str(folder.absolute()) if image and self._uploads(folder) else None,
            "mcp_servers": [_mcp(server) for server in environment.tables("mcp_servers")],
            "skills_dir": environment.get("skills_dir", str),
            "artifacts": self._artifacts(),
            "services": container.services,
            "proof": self._proof(),
        }
        kept = {key: value for key, value in fields.items() if value not in (None, {}, []) or key == "repo_path"}
        return Row(kept, str(self._file), build=container.build, service_builds=container.builds)

    def _proof(self) -> dict[str, Any] | None:
        """How it is proven: by the reference solution, if it brings one."""
        if self._steps or not (self._folder / "solution/solve.sh").is_file():
            return None
        seconds = self._agent.get("timeout_sec", int, float)
        timeout = {} if seconds is None else {"timeout": seconds}
        return {"harness": "harbor", "source": str(self._folder.absolute()), **timeout}

    def _env(self) -> dict[str, str]:
        """What [environment.env] sets. A variable of the host without a default may be a secret: a run has --secret."""
        variables = {}
        for key, value in (self._environment.get("env", dict) or {}).items():
            template = TEMPLATE.fullmatch(str(value))
            if template is None:
                variables[key] = str(value)
            elif template[2] is not None:
                variables[key] = template[2]
        return variables

    def _network(self) -> str:
        """Closed where the agent has no open network in any step. Raises UsageError."""
        agents = [step.table("agent") for step in self._steps] or [self._agent]
        modes = [self._mode(agent) or self._mode(self._agent) or self._baseline() for agent in agents]
        closed = [NETWORKS[mode] for mode in modes if NETWORKS[mode] == "none"]
        return closed[0] if closed else "bridge"

    def _mode(self, table: _Table) -> str | None:
        mode: str | None = table.get("network_mode", str)
        if mode is not None and mode not in NETWORKS:
            raise table.fail(f"must be one of {', '.join(NETWORKS)}", "network_mode")
        return mode

    def _baseline(self) -> str:
        environment = self._environment
        if mode := self._mode(environment):
            return mode
        # Harbor's older word for it, which an allow-list overrules.
        closed = environment.get("allow_internet", bool) is False and environment.get("allowed_hosts", list) is None
        return "no-network" if closed else "public"

    def _budget(self) -> dict[str, Any]:
        """The agent's time, of all steps; none where a step has no limit."""
        whole = self._agent.get("timeout_sec", int, float)
        times = [step.table("agent").get("timeout_sec", int, float) or whole for step in self._steps] or [whole]
        return {} if None in times else {"seconds": sum(times)}

    def _limits(self) -> dict[str, Any]:
        limits = {
            "cpus": self._environment.get("cpus", int, float),
            "memory": self._size("memory_mb", "memory"),
            "disk": self._size("storage_mb", "storage"),
        }
        return {name: value for name, value in limits.items() if value is not None}

    def _size(self, key: str, old: str) -> int | str | None:
        value: int | None = self._environment.get(key, int)
        if value is not None and value < 1:
            raise self._environment.fail("must be more than 0", key)
        older: str | None = self._environment.get(old, str)
        return value * MIB if value is not None else older

    def _gpus(self) -> str | None:
        count = self._environment.get("gpus", int)
        return str(count) if count else None

    def _platform(self) -> str | None:
        system: str | None = self._environment.get("os", str)
        if system is None:
            return None
        if system.lower() not in SYSTEMS:
            raise self._environment.fail(f"must be one of {', '.join(SYSTEMS)}", "os")
        return SYSTEMS[system.lower()] if system.lower() != "linux" else None

    def _uploads(self, folder: Path) -> bool:
        """Harbor copies environment/ into the work directory where it holds nothing to build from."""
        if not folder.is_dir() or (folder / dockerfiles.DOCKERFILE).exists() or dockerfiles.compose_file(folder):
            return False
        return any(folder.iterdir())

    def _artifacts(self) -> list[str]:
        listed = list(self._top.get("artifacts", list) or [])
        for step in self._steps:
            listed += step.get("artifacts", list) or []
        sources = [item.get("source") if isinstance(item, dict) else item for item in listed]
        if not all(isinstance(source, str) for source in sources):
            raise self._top.fail("must be texts, or tables with a source", "artifacts")
        return list(dict.fromkeys(str(source) for source in sources))


def _healthcheck(environment: _Table) -> dict[str, Any] | None:
    table = environment.table("healthcheck")
    if not table.content:
        return None
    command = table.get("command", str)
    if command is None:
        raise table.fail("is missing", "command")
    names = {"interval": "interval_sec", "timeout": "timeout_sec", "start_period": "start_period_sec"}
    times = {name: table.get(key, int, float) for name, key in names.items()}
    known = {**times, "retries": table.get("retries", int)}
    return {"command": command, **{name: value for name, value in known.items() if value is not None}}


def _mcp(server: _Table) -> dict[str, Any]:
    """A server of the Model Context Protocol. Headers that take values of the host are left to the run."""
    transport, headers = server.get("transport", str), server.get("headers", dict) or {}
    known = {
        "name": server.get("name", str),
        "transport": "streamable-http" if transport == "http" else transport,
        "url": server.get("url", str),
        "command": server.get("command", str),
        "args": server.get("args", list),
        "headers": {name: value for name, value in headers.items() if "${" not in str(value)},
    }
    return {name: value for name, value in known.items() if value}


def _registered(source: Source) -> Iterator[tuple[Path, str]]:
    """The folders and names of a registry's dataset. Raises UsageError."""
    try:
        registry = yaml_tree.check(yaml_tree.parse_json(yaml_tree.read(source.path, most=MAX_BYTES)), source.text)
    except (ValueError, RecursionError) as error:
        raise source.fail(f"is not JSON: {error}") from error
    known = registry.get("datasets") if isinstance(registry, dict) else registry
    datasets = [item for item in known if isinstance(item, dict)] if isinstance(known, list) else []
    names = [f"{item.get('name')}@{item.get('version')}" for item in datasets]
    wanted = source.options.get("dataset")
    chosen = [
        item for item, name in zip(datasets, names, strict=True) if wanted in (None, name, name.rpartition("@")[0])
    ]
    if len(chosen) != 1:
        shown = ", ".join(names[:10]) or "none"
        raise source.fail(f"has {len(chosen)} datasets of that name; there are {shown}", field="dataset")
    for task in chosen[0].get("tasks") or ():
        path = task.get("path") if isinstance(task, dict) else None
        if not isinstance(path, str):
            raise source.fail("must be a list of tasks with a path", field="tasks")
        folder = source.path.parent / path
        if not (folder / TASK).is_file():
            repository = task.get("git_url")
            where = f"clone {repository} at {task.get('git_commit_id') or 'HEAD'} into {source.path.parent}"
            advice = f": {where}" if repository else ""
            raise source.fail(f"there is no {path}/{TASK} beside the registry{advice}", field="tasks")
        yield folder, str(task.get("name") or folder.name)


def _listed(source: Source, file: Path) -> set[str]:
    """The names of a dataset's tasks. Their digests are those of Harbor's packages, which a folder need not be."""
    content = _toml(source, file).get("tasks")
    if not isinstance(content, list):
        raise source.fail("must be a list of tables with a name", file=file, field="tasks")
    names = set()
    for number, item in enumerate(content):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise source.fail("must be text", file=file, field=f"tasks[{number}].name")
        digest = item.get("digest")
        if digest is not None and not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
            raise source.fail("must be sha256: and 64 digits", file=file, field=f"tasks[{number}].digest")
        names.add(item["name"].rpartition("/")[2])
    return names


def _toml(source: Source, file: Path) -> dict[str, Any]:
    data = yaml_tree.read(file, most=MAX_BYTES, regular=True)
    # The memory that its parser takes grows with the square of them.
    if MANY_PARTS.search(data):
        raise source.fail(f"is nested more than {yaml_tree.MAX_DEPTH} deep", file=file)
    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise source.fail(f"is not TOML: {error}", file=file) from error
    yaml_tree.check(content, str(file))
    return content


def _as_text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


IMPORTER = Importer(
    "harbor", "task.toml, folders with one, dataset.toml, or registry.json", recognises, load, ("dataset",)
)
