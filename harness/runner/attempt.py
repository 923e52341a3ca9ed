"""One attempt at one task: a container, an agent in it, what it leaves."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from taskgate.harness.base import files
from taskgate.harness.base.errors import (
    AgentFailed,
    ImageChanged,
    InfraError,
    Interrupted,
    IsolationError,
    NoSpace,
    StartFailed,
    TransferError,
)
from taskgate.harness.base.out_files import CALLS, ISOLATION, LOG
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.runner import collection, driver
from taskgate.harness.runner.agent_setup import described, environment, equip
from taskgate.harness.runner.completion import Unfinished
from taskgate.harness.runner.folders import Folders
from taskgate.harness.runner.labelled_log import LabelledLog
from taskgate.harness.runner.run_spec import TEMPORARY, RunSpec
from taskgate.harness.runner.served import AgentClient
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.agent_command import argv_of, through
from taskgate.harness.sandbox.container import Container, open_container
from taskgate.harness.sandbox.isolation.call_log import CallLog
from taskgate.harness.sandbox.isolation.prover import Evidence, Prover
from taskgate.harness.sandbox.isolation.relay_link import KEY, RelayLink, new_key
from taskgate.harness.sandbox.log_file import LogFile
from taskgate.harness.sandbox.program import OutputLog, Program
from taskgate.harness.tasks.task import Task

# Set-up and collection, beside the agent's own time.
MARGIN_SECONDS = 3600.0
UNLIMITED_SECONDS = 30 * 86400.0
DISK_SECONDS = 5.0

# Of what an agent's files say.
REASON_CHARS = 2000


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: `status` is done, failed or infra. `stopped` says why the agent was ended before its own
    end, `exit_status` how it ended; `seconds` is the agent's wall-clock time, `calls` what its endpoint counted."""

    status: str
    reason: str | None = None
    exit_status: int | None = None
    stopped: str | None = None
    seconds: float = 0.0
    calls: int | None = None
    digest: str | None = None
    artifacts: list[str] = field(default_factory=list)


class Attempt:
    """Runs the agent on `task` and leaves its files in `folder`, a folder of this attempt alone.

    `digest`: of the image as it was judged; on another one no agent is put.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        spec: RunSpec,
        folder: Path,
        *,
        digest: str | None,
        session: str,
        delivery: Delivery | None,
        prover: Prover,
        stopping: threading.Event,
        starting: threading.Semaphore,
    ) -> None:
        self.engine, self.task, self.spec, self.folder = engine, task, spec, folder
        self.agent, self.budget = spec.agent_of(task), spec.budget_of(task)
        self._digest, self._session, self._placement, self._prover = digest, session, delivery, prover
        self._stopping, self._starting = stopping, starting
        self._folders = Folders.fresh(task, spec)
        # What the image has in the place of the submission.
        self._stood: dict[str, Any] | None = None
        self._room: RelayLink | None = None
        self._key = new_key()
        self._container: Container | None = None
        self._deadline: float | None = None
        self._size_asked = 0.0
        self.outcome = Outcome("infra")

    def run(self) -> Outcome:
        """The outcome. Raises InfraError where nothing is known of the agent, ImageChanged, Interrupted."""
        log = LogFile(self.folder / LOG, {**self.spec.secrets, "TASKGATE_KEY": self._key})
        try:
            with self._starting:
                self._go_on()
                self._set_up(log)
            try:
                self._work(log)
            except AgentFailed:
                # Half a trajectory may tell why.
                with contextlib.suppress(Unfinished, TransferError):
                    self._collect()
                raise
            self._collect()
            self._inspect()
            self.outcome.status = "done"
        except (AgentFailed, Unfinished, TransferError) as error:
            if isinstance(error, Unfinished) and error.infra:
                raise InfraError(_told(error, log)) from error
            if self._room and (failure := self._room.endpoint_failure):
                # No agent works without its model.
                raise InfraError(_told(InfraError(f"{failure}; {error}"), log)) from error
            self.outcome.status, self.outcome.reason = "failed", _told(error, log)
        except InfraError as error:
            if self._stopping.is_set():
                raise Interrupted from error
            error.args = (_told(error, log),)
            raise
        finally:
            log.close()
            self._clean_up()
        return self.outcome

    # The container.

    def _set_up(self, log: LogFile) -> None:
        """A started container, proven and joined to the relay as the task asks. Raises InfraError, ImageChanged."""
        seconds = (self.budget.seconds or UNLIMITED_SECONDS) + MARGIN_SECONDS
        image = self._image = self._judged()
        self.outcome.digest = image.digest
        if self.agent.server or self.spec.endpoint:
            self._room = RelayLink(
                self.engine,
                self._prover.tools,
                self._session,
                port=self.agent.port if self.agent.server else None,
                endpoint=self.spec.endpoint,
                calls=self.budget.calls,
                seconds=seconds,
                key=self._key,
                log=CallLog(self.folder / CALLS, log.clean) if self.spec.endpoint else None,
            )
        try:
            self._container = open_container(
                self.engine,
                image,
                self.task,
                self._session,
                seconds=seconds,
                delivery=self._placement,
                binds=_binds(self._placement, self._room),
                prepare=self._equip,
            )
        except StartFailed as error:
            # The gate has seen it start.
            raise InfraError(f"the container does not start any more: {error}") from error
        if self.task.network == "none":
            self._prove(self._container)
        if self._room:
            self._room.join(self._container)

    def _judged(self) -> Image:
        """The image that was judged. Raises ImageChanged, ImageNotFound, PlatformUnavailable, InfraError."""
        # The gate has pulled: what the registry has by now nobody has looked at.
        request = self.task.request
        image = self.engine.image(request._replace(pull="missing") if request.pull == "always" else request)
        if image.digest != self._digest:
            raise ImageChanged(f"{self.task.image} is {image.digest} now, and {self._digest} was judged")
        return image

    def _equip(self, made: Container) -> None:
        equip(self.engine, made, self._folders, self.spec.inputs_of(self.task))
        self._stood = collection.standing(self.engine, made, self._folders)

    def _prove(self, container: Container) -> None:
        """That it is cut off, with the evidence kept whatever it says. Raises IsolationError, NoSpace."""
        evidence: Evidence | None = None
        try:
            evidence = self._prover.prove(self.engine, container.id)
        except IsolationError as error:
            evidence = error.evidence
            raise
        finally:
            if evidence:
                self._write(ISOLATION, evidence)

    # The agent.

    def _work(self, log: LogFile) -> None:
        """The agent's own time. Raises AgentFailed, InfraError, Interrupted."""
        begun = time.monotonic()
        self._deadline = begun + self.budget.seconds if self.budget.seconds else None
        try:
            if self.agent.server:
                self._serve(log)
            else:
                self._command(log)
        finally:
            self.outcome.seconds = time.monotonic() - begun
            if self._room and self.spec.endpoint:
                self._room.sync()
                self.outcome.calls = self._room.calls

    def _command(self, log: LogFile) -> None:
        program = self._program((*argv_of(self.agent, self.task), self.task.id), log)
        try:
            if program.follow(self._go_on):
                self.outcome.exit_status = program.status()
        finally:
            program.close()
        self._look_after(log)

    def _serve(self, log: LogFile) -> None:
        assert self._room and self.agent.server
        output = LabelledLog(log, "server") if self.spec.driver else log
        program = self._program(self.agent.server, output)
        over = threading.Event()
        trouble: list[Exception] = []

        def follow() -> None:
            try:
                program.follow(lambda: not over.is_set())
            except Exception as error:
                trouble.append(error)

        def ended() -> str | None:
            if not self._go_on():
                return self.outcome.stopped or "was stopped"
            if trouble:
                raise trouble[0]
            status = None if thread.is_alive() else program.status()
            return None if status is None else f"ended with status {status} ({output.tail()})"

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        client = AgentClient(self._room.url, self._room.headers)
        try:
            client.wait_ready(self.agent.health, ended)
            self._hand_over(client, log)
        finally:
            client.close()
            over.set()
            thread.join(10)
            if not thread.is_alive():
                with contextlib.suppress(InfraError):
                    self.outcome.exit_status = program.poll()
            program.close()
            if isinstance(output, LabelledLog) and not thread.is_alive():
                with contextlib.suppress(OSError):
                    output.end()
        if trouble and not self.outcome.stopped:
            raise trouble[0]
        self._look_after(log)

    def _hand_over(self, client: AgentClient, log: LogFile) -> None:
        """One POST, or the driver's work."""
        if self.spec.driver:
            self._drive(self.spec.driver, log)
            return
        try:
            client.post(self.agent.post, described(self.task, self._image, self.budget, self._folders), self._go_on)
        except TimeoutError:
            pass
        except (AgentFailed, requests.RequestException) as error:
            if not self._go_on():
                return
            # Whose doing it was shows in a moment.
            self._alive()
            raise AgentFailed(str(error)) from error

    def _drive(self, argv: tuple[str, ...], log: LogFile) -> None:
        assert self._room
        driven = driver.drive(
            argv,
            url=self._room.key_url,
            header=": ".join((KEY, self._room.key)),
            task=described(self.task, self._image, self.budget, self._folders),
            folder=self.folder,
            environment={**self._room.environment, **self.spec.secrets},
            log=log,
            go_on=self._go_on,
        )
        if driven.status == TEMPORARY:
            raise InfraError(f"the driver says that the infrastructure failed (status {TEMPORARY}): {driven.tail}")
        if driven.status:
            self._alive()
            raise AgentFailed(f"the driver ended with status {driven.status}: {driven.tail}")

    def _program(self, argv: tuple[str, ...], log: OutputLog) -> Program:
        assert self._container is not None
        bundle = self._placement.bundle if self._placement else None
        if bundle:
            argv = (bundle.program(argv[0], self._container.exists), *argv[1:])
        room = self._room.environment if self._room else {}
        return Program(
            self.engine,
            self._container,
            through(self.task.shell, argv),
            environment=environment(self.task, self.spec, self._image, self.budget, self._folders, bundle, room),
            workdir=self.task.start_dir(self._image.workdir),
            log=log,
        )

    # Its end.

    def _go_on(self) -> bool:
        """May it go on? Raises Interrupted, InfraError."""
        if self._stopping.is_set():
            raise Interrupted
        if self._room:
            self._room.check()
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self.outcome.stopped = f"ran out of its {self.budget.seconds:g} s"
            return False
        limit = self.task.limits.disk
        if limit and self._container and now - self._size_asked > DISK_SECONDS:
            self._size_asked = now
            if self._written() > limit:
                self.outcome.stopped = f"wrote more than its {limit / (1 << 20):.4g} MiB of disk"
                return False
        return True

    def _written(self) -> int:
        """Bytes that the container has written to its own file system. Raises InfraError."""
        assert self._container is not None
        return self.engine.written_bytes(self._container.id)

    def _alive(self) -> None:
        """Raises AgentFailed or InfraError where the container has ended: the agent's doing, or not."""
        assert self._container is not None
        state = self.engine.state(self._container.id)
        if not state.get("Running"):
            how, outside = self._container.exit_reason()
            if self._stopping.is_set():
                raise Interrupted
            raise InfraError(f"the container {how}") if outside else AgentFailed(f"the container {how}")

    def _look_after(self, log: LogFile) -> None:
        """What the agent's end means. Raises AgentFailed, InfraError."""
        assert self._container is not None
        status = self.outcome.exit_status
        if self.outcome.stopped is None:
            self._alive()
        if status == TEMPORARY:
            raise InfraError(f"the agent says that the infrastructure failed (status {TEMPORARY}): {log.tail()}")
        self._end()
        if status == 137 and self.engine.state(self._container.id).get("OOMKilled"):
            self.outcome.stopped = f"ran out of its {self.task.limits.memory / (1 << 30):.3g} GiB of memory"
        elif status in (126, 127) and not self.agent.server:
            raise AgentFailed(f"the agent can't be started (status {status}): {log.tail()}")
        if self.outcome.stopped:
            with contextlib.suppress(OSError):
                log.note(f"the agent {self.outcome.stopped}")

    def _end(self) -> None:
        """End all that runs in the container: from here on nothing in there changes any more."""
        assert self._container is not None
        with contextlib.suppress(InfraError):
            self.engine.signal(self._container.id, doing="ending the agent")

    def _collect(self) -> None:
        """Fetch its files. Raises Unfinished, TransferError, InfraError."""
        assert self._container is not None
        self._end()
        self.outcome.artifacts = collection.collect(
            self.engine, self._container, self.folder, self._folders, self._stood
        )

    def _inspect(self) -> None:
        """Are its files what makes a task done? Raises Unfinished."""
        try:
            collection.inspect(self.folder, self.task.id, self._folders.submission, self._stood)
        except Unfinished as error:
            status, stopped = self.outcome.exit_status, self.outcome.stopped
            why = f"the agent {stopped}" if stopped else f"the agent ended with status {status}" if status else ""
            raise Unfinished(f"{why}: {error}" if why else str(error), infra=error.infra) from error

    def _clean_up(self) -> None:
        """Remove all that it made on the engine; what can't be is the next run's to remove."""
        if self._container:
            with contextlib.suppress(InfraError):
                self._container.remove()
        if self._room:
            with contextlib.suppress(InfraError):
                self._room.close()

    def _write(self, name: str, what: Evidence) -> None:
        try:
            files.write(self.folder / name, json.dumps(what, indent=1).encode())
        except OSError as error:
            raise NoSpace(f"{self.folder / name}: {error.strerror}") from error


def _binds(delivery: Delivery | None, room: RelayLink | None) -> list[str]:
    """The room's mounts, without the runtime's where the task has it already."""
    mine = set(delivery.binds if delivery else ())
    return [bind for bind in (room.binds if room else ()) if bind not in mine]


def _told(error: Exception, log: LogFile) -> str:
    """Cut once no secret is in it: half of one is one."""
    return log.clean(str(error))[:REASON_CHARS]
