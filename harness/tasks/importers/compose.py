"""A compose file: the task's own service as a manifest's fields, those beside it as the manifest's `services`.

Source: the Compose Specification, 05-services.md. What can't be carried over is collected: see `Composed.check`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.lists import and_more
from taskgate.harness.base.units import parse_size
from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Build, Source
from taskgate.harness.tasks.importers.interpolation import interpolated
from taskgate.harness.tasks.values import VARIABLE

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
KEEPALIVE = re.compile(r"\b(sleep|tail|cat|bash|sh)\b")
# What makes no difference to a container that taskgate starts and removes itself.
HARMLESS = frozenset(
    [
        "container_name",
        "hostname",
        "labels",
        "restart",
        "stdin_open",
        "tty",
        "stop_signal",
        "stop_grace_period",
        "pull_policy",
        "ports",
        "expose",
        "logging",
        "attach",
        "annotations",
        "depends_on",
        "networks",
        "build",
        "image",
        "scale",
    ]
)
OF_MAIN = frozenset(
    [
        "working_dir",
        "user",
        "environment",
        "network_mode",
        "cpus",
        "mem_limit",
        "pids_limit",
        "shm_size",
        "cap_add",
        "cap_drop",
        "security_opt",
        "ulimits",
        "tmpfs",
        "init",
        "platform",
        "healthcheck",
        "command",
        "deploy",
        "volumes",
        "privileged",
        "entrypoint",
    ]
)
OF_SERVICE = frozenset(
    [
        "environment",
        "command",
        "entrypoint",
        "user",
        "working_dir",
        "healthcheck",
        "volumes",
        "network_mode",
        "init",
    ]
)
TOP = frozenset(("version", "name", "services", "volumes", "networks"))


@dataclass(slots=True)
class Composed:
    """What a compose file says of one task.

    `fields` are the manifest's, of the task's service; `services` those beside it, as in the manifest, without an
    `image` where one must be built (`builds`). `unsupported` maps a field to why it can't be carried over.
    """

    source: Source
    file: Path
    fields: dict[str, Any] = field(default_factory=dict)
    image: str | None = None
    build: Build | None = None
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    builds: dict[str, Build] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UsageError for what is not carried over, unless the user takes the task without it."""
        if self.unsupported and not self.source.ignores_unsupported:
            name, why = next(iter(self.unsupported.items()))
            more = and_more(len(self.unsupported), 1)
            raise self.source.fail(
                f"{why}{f' ({more})' if more else ''}; to take the task without it, set ignore_unsupported to true",
                file=self.file,
                field=name,
            )


def read(source: Source, file: Path, main: str, variables: Mapping[str, str], *, implicit: bool = False) -> Composed:
    """A compose file whose task's service is `main`. `implicit`: that one is there also where the file has only others.

    Raises UsageError for what is malformed; what can't be carried over is in the result.
    """
    document = yaml_tree.plain_yaml(file)
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict) or not services:
        raise source.fail("must be a mapping of services", file=file, field="services")
    result = Composed(source, file)
    for name in document.keys() - TOP:
        result.unsupported[name] = f"{name} is not supported"
    _shared(document, result)
    if main not in services and not implicit:
        if len(services) > 1:
            raise source.fail(f"which service is the task's? None is called {main}", file=file, field="services")
        main = next(iter(services))
    for name, content in services.items():
        if not isinstance(content or {}, dict):
            raise source.fail("must be a mapping", file=file, field=f"services.{name}")
        service = _Service(result, name, content or {}, variables)
        if name == main:
            service.as_main()
        else:
            service.beside(main)
    return result


def _shared(document: Mapping[str, Any], result: Composed) -> None:
    """Networks and volumes at the top: each task has one network, and volumes of its own."""
    for kind in ("networks", "volumes"):
        declared = document.get(kind)
        for name, content in declared.items() if isinstance(declared, dict) else ():
            for key in ("external", "driver_opts", "ipam"):
                if isinstance(content, dict) and content.get(key):
                    result.unsupported[f"{kind}.{name}.{key}"] = f"{kind} with {key} are not supported"


class _Service:
    """One service of a file. Nothing in it is to be trusted."""

    def __init__(self, result: Composed, name: str, content: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self._result, self._name, self._content, self._variables = result, name, content, variables

    def as_main(self) -> None:
        result = self._result
        self._refuse_unknown(HARMLESS | OF_MAIN)
        workdir = self._text("working_dir", str)
        limits, gpus = self._resources()
        known = {
            "workdir": workdir if workdir and workdir.startswith("/") else None,
            "user": self._text("user", str, int),
            "env": self._environment(),
            # No other network of this host is for a task set to choose.
            "network": "none" if self._text("network_mode", str) == "none" else None,
            "platform": self._text("platform", str),
            "limits": limits,
            "gpus": gpus,
            "shm_size": self._size("shm_size"),
            "init": self._content.get("init") is True or None,
            "capabilities": self._capabilities(),
            "security_opt": self._texts("security_opt"),
            "ulimits": self._ulimits(),
            "tmpfs": self._texts("tmpfs"),
            "healthcheck": self._healthcheck(),
        }
        result.fields = {name: value for name, value in known.items() if value}
        if self._content.get("privileged"):
            self._unsupported("privileged", "privileged containers are not supported")
        if (mode := self._text("network_mode", str)) not in (None, "none", "bridge", "default"):
            self._unsupported("network_mode", f"network_mode {mode} is not supported")
        for key in ("command", "entrypoint"):
            if (argv := self._content.get(key)) and not KEEPALIVE.search(str(argv)):
                self._unsupported(key, f"taskgate keeps the task's container running itself: {key} is not run")
        for volume in self._volumes():
            self._unsupported("volumes", f"the volume {volume[:100]} in the task's own container is not supported")
        result.image, result.build = self._source()

    def beside(self, main: str) -> None:
        result = self._result
        self._refuse_unknown(HARMLESS | OF_SERVICE)
        workdir = self._text("working_dir", str)
        known: dict[str, Any] = {
            "command": self._argv("command"),
            "entrypoint": self._argv("entrypoint"),
            "env": self._environment(),
            "user": self._text("user", str, int),
            "workdir": workdir,
            "healthcheck": self._healthcheck(),
            # The task's own container is always there before.
            "depends_on": [name for name in self._depends_on() if name != main],
            "volumes": list(self._volumes(named=True)),
        }
        image, build = self._source()
        if image is None and build is None:
            raise self._fail("names no image", "image")
        result.services[self._name] = {key: value for key, value in known.items() if value} | (
            {} if build else {"image": image}
        )
        if build:
            result.builds[self._name] = build
        if (mode := self._text("network_mode", str)) not in (None, "bridge", "default"):
            self._unsupported("network_mode", f"network_mode {mode} of a service is not supported")

    def _refuse_unknown(self, known: frozenset[str]) -> None:
        for key in self._content:
            if key not in known and not key.startswith("x-") and self._content[key] not in (None, False, [], {}):
                self._unsupported(key, f"{key[:80]} is not supported")

    def _source(self) -> tuple[str | None, Build | None]:
        """The image, or how it is built: what has a `build` is built, whatever its image is then called."""
        build = self._content.get("build")
        if build is not None:
            return None, self._build({"context": build} if isinstance(build, str) else build)
        image = self._content.get("image")
        return (interpolated(image, self._variables) if isinstance(image, str) else None) or None, None

    def _build(self, content: Any) -> Build:
        field = f"services.{self._name}.build"

        def fail(problem: str) -> UsageError:
            return self._result.source.fail(problem, file=self._result.file, field=field)

        if not isinstance(content, dict):
            raise fail("must be text or a mapping")
        inner, dockerfile = content.get("context", "."), content.get("dockerfile", "Dockerfile")
        target, args = content.get("target"), content.get("args") or {}
        if isinstance(args, list):
            args = dict(str(argument).partition("=")[::2] for argument in args)
        if not isinstance(inner, str) or not isinstance(dockerfile, str) or not isinstance(args, dict):
            raise fail("context and dockerfile must be texts, args a mapping")
        inner = interpolated(inner, self._variables) or "."
        context = within(fail, self._result.file.parent, inner, dockerfile)
        values = {str(key): interpolated(str(value), self._variables) for key, value in args.items()}
        given = {key: value for key, value in values.items() if value is not None and args[key] is not None}
        return Build(context, dockerfile, given, target if isinstance(target, str) else None)

    def _text(self, key: str, *kinds: type) -> str | None:
        value = self._content.get(key)
        if value is None:
            return None
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self._fail("must be text" if kinds == (str,) else "must be text or a number", key)
        return self._literal(str(value), key)

    def _literal(self, text: str, key: str) -> str | None:
        if CONTROL.search(text):
            raise self._fail("contains a control character", key)
        return interpolated(text, self._variables)

    def _texts(self, key: str) -> list[str]:
        value = self._content.get(key) or []
        if not isinstance(value, list):
            value = [value]
        if not all(isinstance(item, str) for item in value):
            raise self._fail("must be text or a list of texts", key)
        return [text for item in value if (text := self._literal(item, key))]

    def _argv(self, key: str) -> list[str] | str | None:
        value = self._content.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return self._literal(value, key)
        return [self._literal(str(item), key) or "" for item in value] if isinstance(value, list) else None

    def _environment(self) -> dict[str, str]:
        value = self._content.get("environment") or {}
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = {name: text if equals else None for name, equals, text in (item.partition("=") for item in value)}
        if not isinstance(value, dict):
            raise self._fail("must be a mapping, or a list of NAME=VALUE", "environment")
        variables = {}
        for name, text in value.items():
            key = f"environment.{name[:80]}"
            if not VARIABLE.fullmatch(name):
                raise self._fail("is not a valid name of an environment variable", key)
            if isinstance(text, dict | list):
                raise self._fail("must be text or a number", key)
            # Without a value it is the host's, or one of those that are known.
            if text is None:
                literal = self._variables.get(name)
            else:
                literal = self._literal(str(text).lower() if isinstance(text, bool) else str(text), key)
            if literal is not None:
                variables[name] = literal
        return variables

    def _resources(self) -> tuple[dict[str, Any], str | None]:
        """The limits of the container, and its GPUs. `deploy` wins, as in compose."""
        deploy = self._content.get("deploy")
        resources = deploy.get("resources") if isinstance(deploy, dict) else None
        limits = resources.get("limits") if isinstance(resources, dict) else None
        more = limits if isinstance(limits, dict) else {}
        cpus = self._number(more.get("cpus"), "deploy.resources.limits.cpus") or self._cpus()
        memory = self._bytes(more.get("memory"), "deploy.resources.limits.memory") or self._size("mem_limit")
        pids = more.get("pids") or self._content.get("pids_limit")
        pids = pids if isinstance(pids, int) and pids > 0 else None
        values = {"cpus": cpus, "memory": memory, "pids": pids}
        return {name: value for name, value in values.items() if value}, self._gpus(resources)

    def _gpus(self, resources: Any) -> str | None:
        reservations = resources.get("reservations") if isinstance(resources, dict) else None
        devices = reservations.get("devices") if isinstance(reservations, dict) else None
        for device in devices if isinstance(devices, list) else ():
            if isinstance(device, dict) and "gpu" in (device.get("capabilities") or ()):
                if device.get("device_ids"):
                    self._unsupported("deploy", "GPUs by their ids are not supported")
                return str(device.get("count", "all"))
        return None

    def _cpus(self) -> float | None:
        return self._number(self._text("cpus", str, int, float), "cpus")

    def _number(self, value: Any, key: str) -> float | None:
        try:
            count = float(value) if value else 0.0
        except (TypeError, ValueError) as error:
            raise self._fail("must be a number of processors", key) from error
        if not 0 <= count <= 4096:
            raise self._fail("must be a number of processors", key)
        # None at all is compose's word for all.
        return count or None

    def _size(self, key: str) -> int | None:
        return self._bytes(self._text(key, str, int), key)

    def _bytes(self, value: Any, key: str) -> int | None:
        try:
            return parse_size(str(value)) if value and str(value) != "0" else None
        except ValueError as error:
            raise self._fail(str(error), key) from error

    def _capabilities(self) -> dict[str, list[str]]:
        capabilities = {"add": self._texts("cap_add"), "drop": self._texts("cap_drop")}
        return {name: [text.upper() for text in texts] for name, texts in capabilities.items() if texts}

    def _ulimits(self) -> dict[str, str]:
        value = self._content.get("ulimits") or {}
        if not isinstance(value, dict):
            raise self._fail("must be a mapping", "ulimits")
        return {
            name: f"{limit.get('soft')}:{limit.get('hard')}" if isinstance(limit, dict) else str(limit)
            for name, limit in value.items()
        }

    def _depends_on(self) -> list[str]:
        value = self._content.get("depends_on") or []
        return [str(name) for name in value] if isinstance(value, list | dict) else [str(value)]

    def _healthcheck(self) -> dict[str, Any] | None:
        value = self._content.get("healthcheck")
        if not isinstance(value, dict) or value.get("disable") or value.get("test") in (None, ["NONE"], "NONE"):
            return None
        test = value["test"]
        if isinstance(test, list) and test[:1] in (["CMD"], ["CMD-SHELL"]):
            test = test[1:] if test[0] == "CMD" else " ".join(map(str, test[1:]))
        command = self._replaced(test)
        times = {
            name: seconds
            for name in ("interval", "timeout", "start_period")
            if (seconds := self._seconds(value.get(name), f"healthcheck.{name}")) is not None
        }
        # Compose's own: 30 s between attempts.
        retries = value.get("retries")
        return {
            "command": command,
            "interval": 30.0,
            **times,
            **({"retries": retries} if isinstance(retries, int) and retries > 0 else {}),
        }

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._literal(str(item), "healthcheck.test") or "" for item in value]
        text = str(value)
        return self._literal(text.strip().replace("\n", "; "), "healthcheck.test") or ""

    def _seconds(self, value: Any, key: str) -> float | None:
        if value is None:
            return None
        text = self._literal(str(value), key) or ""
        match = DURATION.fullmatch(text)
        if not match or not text:
            raise self._fail("must be a duration such as 10s", key)
        hours, minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + thousandths / 1000

    def _volumes(self, *, named: bool = False) -> Iterator[str]:
        """The volumes, without those of the publisher's harness; with `named`, a named one as NAME:PATH[:ro]."""
        value = self._content.get("volumes") or []
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                read_only = ":ro" if item.get("read_only") else ""
                text = f"{item.get('source', '')}:{item.get('target', '')}{read_only}"
                text = text if item.get("type") == "volume" else f"./{text}"
            else:
                text = str(item)
            if text.startswith(("${T_BENCH_", "${HOST_", "${ENV_")):
                continue
            if named and re.match(r"[./~$]", text):
                self._unsupported("volumes", f"the folder of this host in {text[:100]} is not supported")
            elif named and ":" not in text:
                # Its own, anonymous: the container's own file system does as well.
                continue
            else:
                yield text

    def _unsupported(self, key: str, why: str) -> None:
        self._result.unsupported.setdefault(f"services.{self._name}.{key}", why)

    def _fail(self, problem: str, key: str) -> UsageError:
        return self._result.source.fail(problem, file=self._result.file, field=f"services.{self._name}.{key}")


def within(fail: Callable[[str], UsageError], folder: Path, inner: str, dockerfile: str) -> Path:
    """The folder to build in, which is the task's own or below it. Raises what `fail` returns."""
    try:
        context, top = (folder / inner).resolve(), folder.resolve()
        place = (context / dockerfile).resolve()
        there = place.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long, a NUL byte.
        raise fail(f"context or dockerfile is not a usable path: {error}") from error
    # A task set is not ours: what it builds from is its own folder, and nothing else of this host.
    if not context.is_relative_to(top) or not place.is_relative_to(top):
        raise fail("leads out of the task's folder")
    if not there:
        raise fail(f"there is no {dockerfile}")
    return context
