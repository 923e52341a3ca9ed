"""An agent's place of work: a container of the image that was judged, with its folders, cut off and joined as asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import (
    AgentFailed,
    ImageChanged,
    InfraError,
    Interrupted,
    IsolationError,
    StartFailed,
)
from taskgate.harness.base.out_files import CALLS, ISOLATION
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.ownership import ATTEMPT_LABEL
from taskgate.harness.runner import agent_setup, collection
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.folders import Folders
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox import agent_command
from taskgate.harness.sandbox.container import Container, open_container
from taskgate.harness.sandbox.isolation.call_log import CallLog
from taskgate.harness.sandbox.isolation.prover import Evidence, Prover
from taskgate.harness.sandbox.isolation.relay_link import RelayLink, new_key
from taskgate.harness.sandbox.log_file import LogFile
from taskgate.harness.sandbox.program import OutputLog, Program
from taskgate.harness.tasks.task import Task

# Set-up and collection, beside the agent's own time.
MARGIN_SECONDS = 3600.0
UNLIMITED_SECONDS = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class JudgedTask:
    """A task that is worth an agent: the digests of the image that was judged, what is brought into it, and the
    fingerprint of all that reaches the agent."""

    task: Task
    digests: tuple[str, ...]
    config: str
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One engine, as the attempts of one worker use it. `starting` bounds how many are set up at once."""

    engine: Engine
    session: str
    prover: Prover
    starting: threading.Semaphore
    stopping: threading.Event


class Workplace:
    """Made, entered and closed once. `image` is the image that its container was made from."""

    def __init__(self, site: Site, judged: JudgedTask, spec: RunSpec, folder: Path, record: AttemptRecord) -> None:
        self._site, self._spec, self._folder, self._record = site, spec, folder, record
        self.task, self.delivery, self._digests = judged.task, judged.delivery, judged.digests
        self.agent, self.budget = spec.agent_of(self.task), spec.budget_of(self.task)
        self.folders = Folders.fresh(self.task, spec)
        self.key = new_key()
        self.link: RelayLink | None = None
        self._image: Image | None = None
        self._container: Container | None = None

    @property
    def engine(self) -> Engine:
        return self._site.engine

    @property
    def container(self) -> Container:
        assert self._container, "open() comes first"
        return self._container

    @property
    def image(self) -> Image:
        assert self._image, "open() comes first"
        return self._image

    def open(self, log: LogFile) -> None:
        """Start the container, prove it and join it as the task asks. Raises InfraError, ImageChanged and others, see
        Engine.image."""
        seconds = (self.budget.seconds or UNLIMITED_SECONDS) + MARGIN_SECONDS
        self._image = self._judged_image()
        self._record.digests = list(self._image.digests)
        if self.agent.server or self._spec.endpoint:
            self.link = RelayLink(
                self.engine,
                self._site.prover.tools,
                self._site.session,
                port=self.agent.port if self.agent.server else None,
                endpoint=self._spec.endpoint,
                calls=self.budget.calls,
                seconds=seconds,
                key=self.key,
                log=CallLog(self._folder / CALLS, log.clean) if self._spec.endpoint else None,
            )
        try:
            self._container = open_container(
                self.engine,
                self._image,
                self.task,
                self._site.session,
                seconds=seconds,
                delivery=self.delivery,
                binds=_binds(self.delivery, self.link),
                prepare=self._prepare,
                labels={ATTEMPT_LABEL: str(self._folder.absolute())},
            )
        except StartFailed as error:
            # It did when it was judged.
            raise InfraError(f"the container does not start any more: {error}") from error
        if self.task.network == "none":
            self._prove(self._container)
        if self.link:
            self.link.join(self._container)

    def program(self, argv: Sequence[str], log: OutputLog) -> Program:
        """Start a program as the agent. Raises InfraError."""
        bundle = self.delivery.bundle if self.delivery else None
        link = self.link.environment if self.link else {}
        if bundle:
            argv = (bundle.program(argv[0], self.container.exists), *argv[1:])
        program = Program(
            self.engine,
            self.container,
            agent_command.through(self.task.shell, argv),
            environment=agent_setup.environment(
                self.task, self._spec, self.image, self.budget, self.folders, bundle, link
            ),
            workdir=self.task.start_dir(self.image.workdir),
            log=log,
        )
        self._record.exec = program.id
        try:
            self._record.write(self._folder)
        except BaseException:
            program.close()
            raise
        return program

    def insist_on_running(self) -> None:
        """Raises AgentFailed or InfraError where the container has ended: the agent's doing, or not; Interrupted where
        the run is being stopped."""
        if self.engine.state(self.container.id).get("Running"):
            return
        how, outside = self.container.exit_reason()
        if self._site.stopping.is_set():
            raise Interrupted
        raise InfraError(f"the container {how}") if outside else AgentFailed(f"the container {how}")

    def host_ran_out(self) -> bool:
        """Did the kernel end a process because the host has no memory left?"""
        try:
            return self.container.host_ran_out() is True
        except InfraError:
            return False

    def out_of_memory(self) -> bool:
        """Did its container reach its own limit of memory? Once it was ended."""
        return bool(self.engine.state(self.container.id).get("OOMKilled"))

    def end(self) -> None:
        """End all that runs in the container: from here on nothing in there changes any more."""
        with contextlib.suppress(InfraError):
            self.engine.signal(self.container.id, doing="ending the agent")

    def close(self, *, keep: bool = False) -> None:
        """Remove what was made on the engine, but for the container where it is to `keep`. What can't be removed is
        the next run's to remove."""
        if self._container and not keep:
            with contextlib.suppress(InfraError):
                self._container.remove()
        if self.link:
            with contextlib.suppress(InfraError):
                self.link.close()

    def _judged_image(self) -> Image:
        """The image that was judged. Raises ImageChanged, ImageNotFound, PlatformUnavailable, InfraError."""
        # The gate has pulled. What the registry has by now was not judged.
        request = self.task.request
        image = self.engine.image(request._replace(pull="missing") if request.pull == "always" else request)
        if not set(image.digests) & set(self._digests):
            judged = self._digests[0] if self._digests else "another one"
            raise ImageChanged(f"{self.task.image} is {image.digest} now, and {judged} was judged")
        return image

    def _prepare(self, container: Container) -> None:
        """Before the container starts: its folders, what it is given, and what it has already."""
        agent_setup.equip(self.engine, container, self.folders, self._spec, self.task)
        self._record.engine = redacted(self.engine.url)
        self._record.container = container.id
        self._record.before = collection.standing(self.engine, container.id, self.folders)
        self._record.folders = self.folders.as_dict()
        self._record.write(self._folder)

    def _prove(self, container: Container) -> None:
        """That it is cut off; the evidence is kept whatever it says. Raises IsolationError, NoSpace."""
        evidence: Evidence | None = None
        try:
            evidence = self._site.prover.prove(self.engine, container.id)
        except IsolationError as error:
            evidence = error.evidence
            raise
        finally:
            if evidence:
                path = self._folder / ISOLATION
                try:
                    files.write(path, json.dumps(evidence, indent=1).encode())
                except OSError as error:
                    raise files.trouble(path, error) from error


def _binds(delivery: Delivery | None, link: RelayLink | None) -> list[str]:
    """The link's mounts, without the runtime's where the task has it already."""
    mine = set(delivery.binds if delivery else ())
    return [bind for bind in (link.binds if link else ()) if bind not in mine]
