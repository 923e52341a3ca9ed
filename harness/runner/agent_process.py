"""The two kinds of agent at work: a command that ends, and a server that is given its task."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from taskgate.harness.base.errors import AgentFailed, InfraError
from taskgate.harness.runner import driver
from taskgate.harness.runner.agent_setup import described
from taskgate.harness.runner.labelled_log import LabelledLog
from taskgate.harness.runner.run_spec import TEMPORARY, RunSpec
from taskgate.harness.runner.served import HEALTH_SECONDS, AgentClient
from taskgate.harness.runner.watchdog import Watchdog
from taskgate.harness.runner.workplace import Workplace
from taskgate.harness.sandbox.isolation.relay_link import KEY
from taskgate.harness.sandbox.log_file import LogFile
from taskgate.harness.sandbox.program import Program


def work(workplace: Workplace, spec: RunSpec, folder: Path, watchdog: Watchdog, log: LogFile) -> int | None:
    """Let the agent work until its end, or until the watchdog ends it; its exit status, None where nobody knows.

    `folder`: where a driver leaves files. Raises AgentFailed, InfraError, Interrupted.
    """
    if workplace.agent.server:
        return _Server(workplace, spec, folder, watchdog, log).work()
    program = workplace.program(spec.argv_of(workplace.task), log)
    with contextlib.closing(program):
        return program.status() if program.follow(watchdog.go_on) else None


@dataclass(slots=True)
class _Follower:
    """A server's output, followed in a thread; `problem` is what went wrong with it."""

    thread: threading.Thread
    over: threading.Event
    problem: Exception | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, program: Program) -> Iterator[_Follower]:
        follower = cls(threading.Thread(), threading.Event())

        def follow() -> None:
            try:
                program.follow(lambda: not follower.over.is_set())
            except Exception as error:
                follower.problem = error

        follower.thread = threading.Thread(target=follow, daemon=True)
        follower.thread.start()
        try:
            yield follower
        finally:
            follower.over.set()
            follower.thread.join(10)


class _Server:
    """A server agent, which is handed its task by one POST or by a driver of this host."""

    def __init__(self, workplace: Workplace, spec: RunSpec, folder: Path, watchdog: Watchdog, log: LogFile) -> None:
        assert workplace.link and workplace.agent.server
        self._place, self._spec, self._folder = workplace, spec, folder
        self._watchdog, self._log = watchdog, log
        self._link = workplace.link
        self._output = LabelledLog(log, "server") if spec.driver else log
        self._program = workplace.program(workplace.agent.server, self._output)
        self._client = AgentClient(self._link.url, self._link.headers)

    def work(self) -> int | None:
        status: int | None = None
        try:
            with _Follower.of(self._program) as follower:
                patience = max(HEALTH_SECONDS, self._place.task.timeout)
                self._client.wait_ready(self._place.agent.health, lambda: self._ended(follower), patience)
                self._hand_over()
            if not follower.thread.is_alive():
                with contextlib.suppress(InfraError):
                    status = self._program.poll()
            if follower.problem and not self._watchdog.stopped:
                raise follower.problem
        finally:
            self._client.close()
            self._program.close()
            if isinstance(self._output, LabelledLog):
                with contextlib.suppress(OSError):
                    self._output.end()
        return status

    def _ended(self, follower: _Follower) -> str | None:
        """How the server ended, or was ended, before it was ready. Raises what went wrong with its output."""
        if not self._watchdog.go_on():
            return self._watchdog.stopped or "was stopped"
        if follower.problem:
            raise follower.problem
        status = None if follower.thread.is_alive() else self._program.status()
        return None if status is None else f"ended with status {status} ({self._output.tail()})"

    def _hand_over(self) -> None:
        task = described(self._place.task, self._place.image, self._place.budget, self._place.folders)
        if self._spec.driver:
            self._drive(self._spec.driver, task)
            return
        try:
            self._client.post(self._place.agent.post, task, self._watchdog.go_on)
        except TimeoutError:
            pass
        except (AgentFailed, requests.RequestException) as error:
            # A relay that has ended is no failure of the server.
            self._link.sync()
            if not self._watchdog.go_on():
                return
            # Whose doing it was shows in a moment.
            self._place.insist_on_running()
            raise AgentFailed(str(error)) from error

    def _drive(self, argv: tuple[str, ...], task: dict[str, Any]) -> None:
        driven = driver.drive(
            argv,
            url=self._link.key_url,
            header=": ".join((KEY, self._link.key)),
            task=task,
            folder=self._folder,
            environment={**self._link.environment, **self._spec.secrets},
            log=self._log,
            go_on=self._watchdog.go_on,
        )
        if driven.status == TEMPORARY:
            raise InfraError(f"the driver reports an infrastructure failure (status {TEMPORARY}): {driven.tail}")
        if driven.status:
            self._link.sync()
            self._link.check()
            self._place.insist_on_running()
            raise AgentFailed(f"the driver ended with status {driven.status}: {driven.tail}")
