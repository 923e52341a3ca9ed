"""One run of one control, in a container of its own that is removed at its end."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taskgate.harness.base.errors import (
    EngineUnavailable,
    InfraError,
    Interrupted,
    StartFailed,
    TaskgateError,
    UsageError,
)
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Step, Traces
from taskgate.harness.proof.run import Control, Run, RunStatus
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox.container import Container, open_container
from taskgate.harness.sandbox.log_file import LogFile
from taskgate.harness.sandbox.program import Program
from taskgate.harness.sandbox.shell import ShellDied, ShellStuck
from taskgate.harness.tasks.task import Task

# Set-up, beside the time for solution and tests.
MARGIN_SECONDS = 600.0
REASON_CHARS = 2000
SETUP_LOG, TESTS_LOG = "setup.log", "tests.log"
# Of each run so many tests are kept, with names of so many characters: a container chooses both.
MAX_TESTS, NAME_CHARS = 50_000, 500
# The most memory that the container took, in bytes: version 2 of cgroups, then 1.
PEAK = "cat /sys/fs/cgroup/memory.peak 2>/dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes"


class _Failed(Exception):
    """A required step failed: the run is complete, and its tests are not reached."""


@dataclass(slots=True)
class Trial:
    """`folder` is this run's own, for its log. `stopping` ends the run, which is then no run at all."""

    engine: Engine
    image: Image
    task: Task
    plan: Plan
    folder: Path
    session: str
    delivery: Delivery | None
    stopping: threading.Event

    def run(self, control: Control, number: int) -> Run:
        """The run. Raises Interrupted, EngineUnavailable; all else that goes wrong makes it incomplete."""
        begun = time.monotonic()
        run = Run(
            control, number, RunStatus.INCOMPLETE, command=" ".join(self.plan.tests_of(control).argv), log=TESTS_LOG
        )
        try:
            # Harnesses parse what the tests printed, and nothing else.
            with (
                contextlib.closing(LogFile(self.folder / SETUP_LOG, {})) as setup,
                contextlib.closing(LogFile(self.folder / TESTS_LOG, {})) as tests,
            ):
                outcome, status, peak = self._in_container(control, setup, tests)
            run = replace(
                run,
                status=outcome.status,
                reason=outcome.reason,
                tests=_capped(outcome.tests),
                exit_status=status,
                peak_memory=peak,
            )
        except (TaskgateError, OSError) as error:
            if self.stopping.is_set() or isinstance(error, Interrupted):
                raise Interrupted from error
            if isinstance(error, EngineUnavailable):
                # Another engine may go on with the proof.
                raise
            run = replace(run, reason=str(error)[:REASON_CHARS])
        return replace(run, seconds=time.monotonic() - begun)

    def _in_container(self, control: Control, setup: LogFile, tests: LogFile) -> tuple[Outcome, int | None, int | None]:
        proof = self.task.proof
        task = replace(
            self.task,
            user=(proof.user if proof else None) or self.task.user,
            network="none" if control.offline else self.task.network,
            privileges="default",
        )
        steps = [*(self.plan.solve if control.solves else ()), *self.plan.prepare, self.plan.tests_of(control)]
        seconds = sum(step.seconds for step in steps if isinstance(step, Command)) + MARGIN_SECONDS
        try:
            container = open_container(
                self.engine, self.image, task, self.session, seconds=seconds, delivery=self.delivery
            )
        except StartFailed as error:
            raise InfraError(f"the container does not start: {error}") from error
        try:
            return self._steps(control, container, setup, tests)
        finally:
            with contextlib.suppress(InfraError):
                container.remove()

    def _steps(
        self, control: Control, container: Container, setup: LogFile, tests: LogFile
    ) -> tuple[Outcome, int | None, int | None]:
        status: int | None = None
        try:
            if control.solves:
                self._all(self.plan.solve, container, setup)
            self._all(self.plan.prepare, container, setup)
            status = self._execute(self.plan.tests_of(control), container, tests)
        except _Failed as error:
            return Outcome(RunStatus.FAILED, str(error)[:REASON_CHARS]), None, self._peak(container)
        except TimeoutError as error:
            # A solution or tests that take too long may be the host's fault. Without a solution it is what was to be
            # shown: the tests don't pass.
            outcome = RunStatus.INCOMPLETE if control.solves else RunStatus.FAILED
            return Outcome(outcome, str(error)), None, None
        if status == 137 and (how := self._killed(container)):
            return Outcome(RunStatus.FAILED, how), status, None
        traces = Traces(status, tests.path, lambda path, limit: fetch(self.engine, container, path, limit))
        outcome_read = self.plan.read(traces)
        return outcome_read, status, self._peak(container)

    def _all(self, steps: Sequence[Step], container: Container, log: LogFile) -> None:
        for step in steps:
            if isinstance(step, Put):
                put(self.engine, container, step)
            else:
                log.note(f"$ {' '.join(step.argv)}")
                status = self._execute(step, container, log)
                if status and step.required:
                    raise _Failed(f"`{' '.join(step.argv)[:200]}` ended with status {status}: {log.tail()}")

    def _execute(self, command: Command, container: Container, log: LogFile) -> int:
        """Its exit status. Raises TimeoutError, Interrupted, InfraError."""
        deadline = time.monotonic() + command.seconds
        program = Program(
            self.engine,
            container,
            command.argv,
            environment=command.environment,
            user=command.user or "",
            workdir=command.workdir or self.task.start_dir(self.image.workdir),
            log=log,
        )
        try:
            if not program.follow(lambda: not self.stopping.is_set() and time.monotonic() < deadline):
                if self.stopping.is_set():
                    raise Interrupted
                raise TimeoutError(f"`{' '.join(command.argv)[:200]}` did not end within {command.seconds:g} s")
            status = program.status()
            assert status is not None
            return status
        finally:
            program.close()

    def _killed(self, container: Container) -> str | None:
        """Why a process was killed, if it was for its container's own limit. Raises InfraError for the host's."""
        if container.host_ran_out():
            raise InfraError("the host ran out of memory")
        if self.engine.state(container.id).get("OOMKilled"):
            return f"ran out of its {self.task.limits.memory / (1 << 30):.3g} GiB of memory"
        return None

    def _peak(self, container: Container) -> int | None:
        with contextlib.suppress(ShellDied, ShellStuck, InfraError, ValueError):
            return int(container.run(PEAK, seconds=10.0).out.split()[0])
        return None


def put(engine: Engine, container: Container, step: Put) -> None:
    """Put a file or a folder into the container. Raises UsageError where it can't be read, InfraError."""
    held = io.BytesIO()
    try:
        with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
            name = step.path.lstrip("/")
            if isinstance(step.content, bytes):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(step.content), step.mode
                tar.addfile(member, io.BytesIO(step.content))
            else:
                tar.add(step.content, name, filter=_owned_by_root)
    except OSError as error:
        raise UsageError(f"{step.content!r} can't be read: {error.strerror or error}") from error
    held.seek(0)
    engine.put_tar(container.id, "/", held, doing="putting files into a container")


def fetch(engine: Engine, container: Container, path: str, limit: int) -> bytes | None:
    """A regular file's bytes; None where there is none. Raises ValueError, InfraError."""
    try:
        with engine.read_tar(container.id, path) as tar:
            member = tar.next()
            if member is None or not member.isreg():
                raise ValueError("is not a regular file")
            if member.size > limit:
                raise ValueError(f"is larger than {limit:,} bytes")
            file = tar.extractfile(member)
            assert file is not None
            return file.read()
    except FileNotFoundError:
        return None


def _capped(tests: Mapping[str, str]) -> dict[str, str]:
    return {name[:NAME_CHARS]: outcome for name, outcome in itertools.islice(tests.items(), MAX_TESTS)}


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isreg() or member.isdir() or member.issym() else None
