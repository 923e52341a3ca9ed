"""The containers beside a task's: started in its network, awaited, removed with it.

They share the task's network namespace, as containers of one pod do, and are found under their names on its loopback
interface: what cuts the task off from every network cuts them off as well, and nothing else reaches them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import ImageNotFound, InfraError, StartFailed
from taskgate.harness.engine import classification, ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.tasks.service_spec import Healthcheck, Service, start_order
from taskgate.harness.tasks.task import Task

LOOPBACK = "127.0.0.1"
# Beyond the health checks' own times: until a service without one counts as started, and between two looks at it.
SETTLE_SECONDS, LOOK_SECONDS, PROBE_SECONDS = 0.5, 0.1, 1.0
DEADLINE_SECONDS = 300.0
LOG_LINES = 5


def hosts(task: Task) -> dict[str, str]:
    """What a task's container must be created with to find its services: their addresses by name."""
    return dict.fromkeys(task.services, LOOPBACK)


class ServiceFailed(StartFailed):
    """A service could not be started, ended, or did not become healthy. `service` names it."""

    def __init__(self, service: str, reason: str, *, needs_confirmation: bool = False) -> None:
        super().__init__(f"service {service}: {reason}", cause="services", needs_confirmation=needs_confirmation)
        self.service = service


@dataclass(frozen=True)
class _Started:
    name: str
    container: str
    healthcheck: Healthcheck | None


class Services:
    """The services of one task's container. Close them before it is removed."""

    def __init__(self, engine: Engine, container: str, task: Task, session: str, *, seconds: float) -> None:
        """`container`: the task's own, which runs. `seconds`: the longest that they may be needed."""
        self._engine, self._container, self._task = engine, container, task
        self._labels = ownership.labels(session, seconds)
        self._started: list[_Started] = []
        self._volumes: dict[str, str] = {}

    def start(self, *, seconds: float = DEADLINE_SECONDS, check: Callable[[], object] = lambda: None) -> None:
        """Start them, each after those that it depends on, and wait until all are healthy.

        `check` is called while it waits, and may raise. Raises ServiceFailed, InfraError, PlatformUnavailable.
        """
        deadline = time.monotonic() + seconds
        ready: set[str] = set()
        for name in start_order(self._task.services):
            service = self._task.services[name]
            for other in self._started:
                if other.name in service.depends_on and other.name not in ready:
                    self._await(other, deadline, check)
                    ready.add(other.name)
            self._started.append(self._start(name, service))
        for started in self._started:
            if started.name not in ready:
                self._await(started, deadline, check)

    def close(self) -> None:
        """Remove them with their volumes. Raises InfraError."""
        started, self._started = self._started, []
        for service in reversed(started):
            self._engine.remove(service.container)
        volumes, self._volumes = self._volumes, {}
        for volume in volumes.values():
            self._engine.remove_volume(volume)

    def _start(self, name: str, service: Service) -> _Started:
        try:
            image = self._engine.image(ImageRequest(service.image, self._task.platform, self._task.pull))
        except ImageNotFound as error:
            raise ServiceFailed(name, str(error)) from error
        about = (self._engine.inspect(image.digest) or {}).get("Config") or {}
        argv = _argv(service, about)
        if not argv:
            raise ServiceFailed(name, f"{service.image} has no command to run, and the service names none")
        container = self._engine.create_container(
            image.digest,
            argv,
            labels=self._labels,
            doing=f"creating the service {name}",
            user=service.user or image.user or None,
            workdir=service.workdir or image.workdir or "/",
            environment=service.env,
            healthcheck=False,
            network_mode=f"container:{self._container}",
            binds=[self._bind(volume) for volume in service.volumes] or None,
            mem_limit=self._task.limits.memory,
            pids_limit=self._task.limits.pids,
            security_opt=["no-new-privileges"] if self._task.privileges == "no-new" else None,
        )
        healthcheck = service.healthcheck or _of_image(about)
        started = _Started(name, container, healthcheck)
        try:
            self._engine.start_container(container, doing=f"starting the service {name}")
        except InfraError as error:
            with contextlib.suppress(InfraError):
                self._engine.remove(container)
            if answer := classification.answer_of(error):
                raise ServiceFailed(name, escape.line(answer.text, 500)) from error
            raise
        return started

    def _bind(self, volume: str) -> str:
        name, _, rest = volume.partition(":")
        if name not in self._volumes:
            own = f"taskgate-{self._container[:12]}-{name}"
            self._engine.create_volume(own, self._labels)
            self._volumes[name] = own
        return f"{self._volumes[name]}:{rest}"

    def _await(self, started: _Started, deadline: float, check: Callable[[], object]) -> None:
        """Until it is healthy; without a health check, until it has not ended at once."""
        begun = counted = time.monotonic()
        failures = 0
        while True:
            check()
            state = self._engine.state(started.container)
            if not state.get("Running"):
                raise self._failed(started, f"ended with exit status {state.get('ExitCode')}")
            now = time.monotonic()
            if started.healthcheck is None:
                if now - begun >= SETTLE_SECONDS:
                    return
                time.sleep(LOOK_SECONDS)
                continue
            interval = started.healthcheck.interval
            problem = self._probe(started, started.healthcheck, min(deadline, now + started.healthcheck.timeout))
            if problem is None:
                return
            # Asked more often than it counts: a service that is soon ready is not waited for.
            if now - begun >= started.healthcheck.start_period and (not failures or now - counted >= interval):
                failures, counted = failures + 1, now
            if failures >= started.healthcheck.retries:
                raise self._failed(started, f"is not healthy after {failures} attempts: {problem}")
            if time.monotonic() >= deadline:
                raise self._failed(started, f"is not healthy in time: {problem}", needs_confirmation=True)
            time.sleep(min(interval, PROBE_SECONDS, max(0.0, deadline - time.monotonic())))

    def _probe(self, started: _Started, healthcheck: Healthcheck, deadline: float) -> str | None:
        """Why an attempt failed; None where it succeeded."""
        probe = self._engine.exec(started.container, healthcheck.command, f"the health check of {started.name}")
        try:
            while (status := probe.poll()) is None:
                if time.monotonic() >= deadline:
                    return f"its health check took more than {healthcheck.timeout:g} s"
                time.sleep(LOOK_SECONDS)
        finally:
            probe.close()
        return None if status == 0 else f"its health check ends with status {status}"

    def _failed(self, started: _Started, reason: str, *, needs_confirmation: bool = False) -> ServiceFailed:
        """With its last lines."""
        with contextlib.suppress(InfraError):
            lines = self._engine.output(started.container, last_lines=LOG_LINES).strip().splitlines()
            if lines:
                reason += f" (its last lines: {escape.line(' | '.join(lines), 500)})"
        return ServiceFailed(started.name, reason, needs_confirmation=needs_confirmation)


def _argv(service: Service, about: Mapping[str, Any]) -> list[str]:
    """As engines put it together: an ENTRYPOINT of one's own drops the image's CMD."""
    entrypoint = list(service.entrypoint or about.get("Entrypoint") or ())
    command = service.command if service.command is not None else (() if service.entrypoint else about.get("Cmd") or ())
    return [*entrypoint, *command]


def _of_image(about: Mapping[str, Any]) -> Healthcheck | None:
    """The image's HEALTHCHECK. The engine has its times in nanoseconds, and 0 where they are the defaults."""
    known = about.get("Healthcheck") or {}
    test = known.get("Test") or []
    if test[:1] not in (["CMD"], ["CMD-SHELL"]) or len(test) < 2:
        return None
    argv = tuple(test[1:]) if test[0] == "CMD" else ("/bin/sh", "-c", test[1])
    return Healthcheck(
        argv,
        interval=(known.get("Interval") or 30e9) / 1e9,
        timeout=(known.get("Timeout") or 30e9) / 1e9,
        start_period=(known.get("StartPeriod") or 0) / 1e9,
        retries=known.get("Retries") or 3,
    )
