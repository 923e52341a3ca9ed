"""What a check sees of an image: a sandbox to run commands in. Nothing of Docker shows through."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from taskgate.harness.base.errors import ImageNotFound, InfraError, IsolationError, NoSpace, RuntimeGone, StartFailed
from taskgate.harness.engine import classification
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox import environment, preparation
from taskgate.harness.sandbox.agent_command import through_text
from taskgate.harness.sandbox.container import SHELL, Container
from taskgate.harness.sandbox.isolation.prover import Prover
from taskgate.harness.sandbox.pause import Pauses
from taskgate.harness.sandbox.progress import PATIENCE, Progress
from taskgate.harness.sandbox.services import ServiceFailed
from taskgate.harness.sandbox.shell import Result, ShellDied, ShellStuck
from taskgate.harness.tasks.task import Task

# The exit status of what SIGKILL ended.
KILLED = 137
# What follows `--` is the command's; the variables stand before it.
ENTER = 'cd "$1" || exit; shift; while [ "$1" != -- ]; do export "$1"; shift; done; shift; '


def slow_after(seconds: float) -> float:
    """After how many seconds a check with a deadline of `seconds` is slow: most take a tenth of a second."""
    return min(max(0.5, seconds / 15), seconds)


class CheckStopped(Exception):
    """A command was stopped, or ended its container: the check that ran it has failed.

    `needs_confirmation`: a busy host may be the reason as well. `busy`: the command made progress to the end, which is
    worth a warning only.
    """

    def __init__(self, reason: str, result: Result, *, needs_confirmation: bool = False, busy: bool = False) -> None:
        super().__init__(reason)
        self.result, self.needs_confirmation, self.busy = result, needs_confirmation, busy


class Sandbox:
    """One task's image, for as long as its checks run. Lazy: what no check asks for is not done.

    `task` is the manifest's task. `runtime` is the bundle that is brought in, if any. `shell_trouble` says why the
    bundle's shell replaces the image's, once the container is started. `started`: a container of the image ran.
    `needs_confirmation`: something happened that a busy host may have caused as well, so that a failure must happen
    twice before it counts. `facts` is a dict in which a check may leave what later ones need. `pulled` is False where
    only a registry was asked about the image, and nothing can be started. `on_slow` is called, in the thread that
    waits, when a check takes noticeably long.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        session: str,
        *,
        checks: int = 20,
        delivery: Delivery | None = None,
        prover: Prover | None = None,
        registry_lookup: RegistryLookup | None = None,
        pauses: Pauses | None = None,
        fetch: Callable[[Task], Image] | None = None,
        on_slow: Callable[[], None] | None = None,
    ) -> None:
        self.task = task
        self.facts: dict[str, Any] = {}
        self.last: Result | None = None
        self.runtime = delivery.bundle if delivery else None
        self.shell_trouble: str | None = None
        self.preparation_problem: str | None = None
        self.needs_confirmation = False
        self.started = False
        self._engine, self._session, self._checks, self._delivery = engine, session, checks, delivery
        self._prover, self._registry_lookup, self._pauses = prover, registry_lookup, pauses
        self._fetch = fetch or (lambda task: engine.image(task.request))
        self._on_slow = on_slow
        self.pulled = True
        self._container: Container | None = None
        self._failure: StartFailed | None = None
        self._deadline: float | None = None
        self._seconds = task.timeout

    @cached_property
    def _image_or_error(self) -> Image | ImageNotFound:
        try:
            if self._registry_lookup is None or self.task.pull == "never":
                return self._fetch(self.task)
            if self.task.pull == "missing" and (image := self._engine.local(self.task.image)):
                return image
            self.pulled = False
            return self._registry_lookup.image(self.task.request)
        except ImageNotFound as error:
            return error

    @property
    def image(self) -> Image:
        """The image, pulled if need be. Raises ImageNotFound, PlatformUnavailable or InfraError."""
        if isinstance(self._image_or_error, ImageNotFound):
            raise self._image_or_error
        return self._image_or_error

    @property
    def found_image(self) -> Image | None:
        """The image, if it was looked for and found."""
        image = vars(self).get("_image_or_error")
        return image if isinstance(image, Image) else None

    @property
    def container_id(self) -> str | None:
        """The id of its container, while it has one."""
        return self._container.id if self._container else None

    @property
    def host_platform(self) -> str:
        """The engine's own platform, `linux/amd64`."""
        return self._engine.platform

    @property
    def user(self) -> str:
        """The agent's user: the manifest's, else the image's; `` is root."""
        return self.task.user or self.image.user

    @property
    def start_dir(self) -> str:
        """The absolute path of the directory where the agent starts."""
        return self.task.start_dir(self.image.workdir)

    def start(self) -> None:
        """Start the container if it isn't. Raises StartFailed (again, if it did before) or InfraError."""
        if self._failure:
            raise self._failure
        if self._container:
            return
        try:
            self._start_with_any_shell()
        except StartFailed as error:
            self._failure = error
            raise
        except InfraError:
            # The next check must not talk to a container that never started.
            self._discard()
            raise
        self.started = True

    def _start_with_any_shell(self) -> None:
        """With the image's shell, else the runtime's."""
        own = self.runtime.shell if self.runtime else None
        try:
            self._start_container(SHELL)
        except StartFailed as error:
            if error.cause != "shell" or own is None:
                raise
            self._discard()
            self._start_container(own)
            self.shell_trouble = str(error)

    def _start_container(self, shell: tuple[str, ...]) -> None:
        network = self._pauses.network(self.task, self.image) if self._pauses else self.task.network
        try:
            container = self._container = Container(
                self._engine,
                self.image,
                self.task,
                self._session,
                seconds=self._seconds * self._checks + 300,
                delivery=self._delivery,
                shell=shell,
                network=network,
            )
            self._watch()
            container.start()
            self.preparation_problem = preparation.prepare(
                self._engine, container, self.task, self.image, lambda: self._program(container, "git")
            )
        except StartFailed as error:
            self.needs_confirmation = self.needs_confirmation or error.needs_confirmation
            raise
        except InfraError:
            if self._pauses and network != self.task.network:
                self._pauses.refuse(self.task.network)
            raise

    def begin(self, seconds: float) -> None:
        """A new check begins and has `seconds` for all its commands together."""
        self._seconds, self._deadline, self.last = seconds, time.monotonic() + seconds, None
        self._watch()

    def _watch(self) -> None:
        if self._container and self._on_slow and self._deadline:
            self._container.call_when_slow(self._deadline - self._seconds + slow_after(self._seconds), self._on_slow)

    def sh(
        self,
        script: str,
        *args: str,
        shown: str | None = None,
        patient: bool = False,
        within: float | None = None,
    ) -> Result:
        """Run a POSIX sh script with `args` as `$1…`, as the agent's user, in `/`, without stdin.

        Values that come from a manifest or an image belong into `args`, never into `script`.
        `shown` is how the evidence puts it, where the script is longer than a reader wants.
        A check need not care for its deadline: what is stopped there counts as its failure. A `patient` check's command
        gets more time as long as it makes progress. After `within` seconds a command is ended, and its result so far
        returned.
        """
        self.start()
        assert self._container is not None
        left = self._seconds if self._deadline is None else max(0.1, self._deadline - time.monotonic())
        seconds = left if within is None else min(left, within)
        begun = time.monotonic()
        until = (self._deadline or begun + self._seconds) + (PATIENCE - 1) * self._seconds
        progress = Progress(self._container.activity, until) if patient else None
        try:
            more = progress.more if progress else None
            self.last = result = self._container.run(script, *args, seconds=seconds, shown=shown, more=more)
        except ShellDied as died:
            how, outside = self._container.exit_reason()
            self._discard()
            if outside:
                raise InfraError(f"the container {how}") from died
            self.last = Result(shown or script, KILLED, died.output, time.monotonic() - begun, how)
            raise CheckStopped(f"the container {how}", self.last, needs_confirmation=True) from died
        except ShellStuck as stuck:
            if not self._engine.alive():
                raise InfraError("the engine stopped answering") from stuck
            self._discard()
            self.last = Result(shown or script, KILLED, str(stuck), time.monotonic() - begun, "its shell hung")
            raise CheckStopped(
                "hung so that not even its shell answered", self.last, needs_confirmation=True
            ) from stuck
        if result.stopped and within is None:
            raise self._stop(result, progress)
        return result

    def _stop(self, result: Result, progress: Progress | None) -> CheckStopped:
        """What it means that a command had to be ended."""
        assert result.stopped
        if not result.stopped.startswith("timed out"):
            return CheckStopped(result.stopped, result)
        if progress and progress.busy:
            reason = f"still at work after {result.seconds:.0f} s: the files are many, or the disk is slow"
            return CheckStopped(f"{reason} ({result.command[:200]})", result, busy=True)
        still = " and made no progress" if progress else ""
        return CheckStopped(f"timed out after {self._seconds:g} s{still}", result, needs_confirmation=True)

    def as_agent(
        self, script: str, *args: str, where: str | None = None, shown: str | None = None, patient: bool = False
    ) -> Result:
        """Run a script as `sh` does, but as the agent runs: in the work directory (or `where`), with the agent's own
        variables, and by the task's shell where it names one."""
        argv = list(args)
        if self.task.shell:
            text = f"{shlex.join(['set', '--', *args])}\n{script}"
            script, argv = '"$@"', list(through_text(self.task.shell, text))
        variables = [f"{name}={value}" for name, value in self.agent_environment.items()]
        return self.sh(ENTER + script, where or self.start_dir, *variables, "--", *argv, shown=shown, patient=patient)

    def target(self, path: str) -> str | None:
        """Where `path` leads, links followed; None where nothing is. Without any help of the image's programs."""
        self.start()
        assert self._container is not None
        # A loop of links is an error to the engine.
        with contextlib.suppress(InfraError):
            return self._container.target(path)
        return None

    def head(self, path: str, size: int = 1 << 16) -> bytes:
        """The first bytes of a file, links followed; none where there is no file."""
        self.start()
        assert self._container is not None
        return self._container.head(path, size)

    def exists(self, path: str) -> bool:
        """Is there anything at `path`? Without any help of the image's programs."""
        if not self._container:
            with contextlib.suppress(StartFailed):
                self.start()
        # What can't even be created has no files to look at.
        return self._container is not None and self._container.exists(path)

    def program(self, name: str) -> str:
        """Where a program of the agent's is: the runtime's, where it has one of that name, else as the image has it."""
        self.start()
        assert self._container is not None
        return self._program(self._container, name)

    def _program(self, container: Container, name: str) -> str:
        return self.runtime.program(name, container.exists) if self.runtime else name

    def rule_out_host(self, what: str, result: Result | None) -> None:
        """Before a failure is held against the image: is it the host's doing? Raises InfraError then."""
        if result and classification.NO_SPACE.search(result.out):
            raise NoSpace(f"{what}: no space left on the engine's disk")
        if result and result.code == KILLED and not result.stopped and self._container:
            host_ran_out = self._container.host_ran_out()
            if host_ran_out:
                raise InfraError(f"{what}: killed because the host is out of memory")
            self.needs_confirmation = self.needs_confirmation or host_ran_out is None
        if self._container and self._delivery and not self._delivery.is_in(self._container.exists):
            raise RuntimeGone(f"the runtime {self._delivery.bundle.prefix} is gone from the engine")

    @property
    def agent_environment(self) -> dict[str, str]:
        """What the agent's processes find beside the image's and the task's variables."""
        return environment.of_agent(self.image, self.task, self.runtime)

    def start_services(self) -> None:
        """Start what the task has beside its container, and wait until it is healthy. Raises ServiceFailed,
        PlatformUnavailable, InfraError."""
        self.start()
        assert self._container is not None
        try:
            self._container.start_services()
        except ServiceFailed as error:
            self.needs_confirmation = self.needs_confirmation or error.needs_confirmation
            raise

    def prove_isolation(self) -> None:
        """Prove from inside that no network is reached. Raises IsolationError if one is, or if there is no proof."""
        self.start()
        assert self._container is not None
        if self._prover is None:
            raise IsolationError("nobody is here to prove it")
        self._prover.prove(self._engine, self._container.id)

    def close(self) -> None:
        """Remove the container. Raises InfraError."""
        if self._container:
            container, self._container = self._container, None
            try:
                container.remove()
            except InfraError:
                if self._pauses:
                    self._pauses.leave(self.task.network)
                raise

    def _discard(self) -> None:
        """Let go of a container that no longer answers; the next check gets a fresh one."""
        with contextlib.suppress(InfraError):
            self.close()
