"""A container of a task image: created, attached, started, removed. Four engine calls for all checks."""

from __future__ import annotations

import contextlib
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence

from taskgate.harness.base.errors import EngineTimeout, InfraError, StartFailed
from taskgate.harness.engine import archive_api, classification, ownership
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.sandbox import devices, preparation
from taskgate.harness.sandbox.progress import Activity
from taskgate.harness.sandbox.services import Services
from taskgate.harness.sandbox.shell import Result, Shell, ShellDied, ShellStuck
from taskgate.harness.tasks.task import Task

READY_SECONDS = 20.0
SHELL = ("/bin/sh",)
# As many as the kernel follows.
LINKS = 40
TOO_LONG = re.compile(r"argument list too long", re.I)
# What an engine opens by itself, outside of the container, before it starts one.
OPENED = ("/etc/passwd", "/etc/group")
# Has the kernel killed a process because memory ran out? Status 0: at the container's own limit; 1: because the host
# has none left; 2: unknown; 3: it has killed none. Version 2 of cgroups, then 1.
MEMORY = """
killed= reached=
if [ -r /sys/fs/cgroup/memory.events ]; then
  while read -r name count; do
    case $name in oom) reached=$count ;; oom_kill) killed=$count ;; esac
  done </sys/fs/cgroup/memory.events
elif [ -r /sys/fs/cgroup/memory/memory.oom_control ]; then
  while read -r name count; do
    [ "$name" != oom_kill ] || killed=$count
  done </sys/fs/cgroup/memory/memory.oom_control
  read -r reached </sys/fs/cgroup/memory/memory.failcnt
fi
[ -n "$killed" ] && [ -n "$reached" ] || exit 2
[ "$killed" != 0 ] || exit 3
[ "$reached" != 0 ]
"""


class Container:
    """Made from an image as the evaluation will use it: same user, environment, network and limits.

    The image's ENTRYPOINT, CMD, HEALTHCHECK and WORKDIR play no part (an engine would create a missing WORKDIR).
    """

    def __init__(
        self,
        engine: Engine,
        image: Image,
        task: Task,
        session: str,
        *,
        seconds: float,
        delivery: Delivery | None = None,
        shell: tuple[str, ...] = SHELL,
        binds: Sequence[str] = (),
        network: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create it. Raises InfraError.

        `seconds`: the longest that it may be needed. `shell`: the argv of a POSIX shell that reads its stdin.
        `binds`: further mounts, as the engine's host configuration has them. `network`: the mode, where it is not the
        task's. `labels`: further ones.
        """
        self._engine, self._limits = engine, task.limits
        self._patience = max(READY_SECONDS, task.timeout)
        self._shell: Shell | None = None
        env = {**image.env, **task.env}
        self._sizes = {name: len(f"{name}={value}".encode("utf-8", "surrogateescape")) for name, value in env.items()}
        self._slow: tuple[float, Callable[[], None]] | None = None
        self._task, self._session, self._seconds = task, session, seconds
        self._services: Services | None = None
        create = devices.ruling_out_host(task, engine.create_container)
        self.id = create(
            delivery.image(image) if delivery else image.digest,
            shell,
            labels={**ownership.labels(session, seconds), **(labels or {})},
            user=task.user or image.user or None,
            environment=task.env,
            stdin=True,
            healthcheck=not image.healthcheck,
            logged=False,
            network_mode=network or task.network,
            binds=[*(delivery.binds if delivery else ()), *binds] or None,
            mem_limit=task.limits.memory,
            nano_cpus=round(task.limits.cpus * 1e9) if task.limits.cpus else None,
            pids_limit=task.limits.pids,
            **devices.host_config(task),
        )

    def start(self) -> None:
        """Start it and wait for its shell. Raises StartFailed, or InfraError."""
        reject_special_files(self._engine, self.id)
        try:
            # Podman prepares the container here already, so that what Docker says at the start it says now.
            shell = self._shell = Shell(self._engine.attach(self.id), self._stop_processes)
            if self._slow:
                shell.call_when_slow(*self._slow)
            shell.boot()
            self._engine.start_container(self.id)
        except InfraError as error:
            if answer := classification.answer_of(error):
                devices.rule_out_host(self._task, answer.text)
                if TOO_LONG.search(answer.text):
                    raise self._too_long(answer.text) from error
                raise self._explained(classification.of_start(answer.text)) from error
            raise
        except ShellDied as died:
            raise InfraError("the connection to a container broke before it was started") from died
        try:
            shell.ready(self._patience)
        except ShellDied as died:
            raise self._died_at_start(died.output) from died
        except ShellStuck as stuck:
            if not self._engine.alive():
                raise EngineTimeout("the engine stopped answering while a container started") from stuck
            raise StartFailed(
                f"/bin/sh started but answered nothing for {self._patience:g} s",
                cause="shell",
                output=str(stuck),
                needs_confirmation=True,
            ) from stuck

    def start_services(self, check: Callable[[], object] = lambda: None) -> None:
        """Start what the task has beside it, once, and wait until it is healthy. `check` is called while it waits.

        Raises ServiceFailed, PlatformUnavailable, InfraError.
        """
        if self._services is None and self._task.services:
            self._services = Services(self._engine, self.id, self._task, self._session, seconds=self._seconds)
            self._services.start(check=check)

    def prepare(self, image: Image, delivery: Delivery | None) -> None:
        """Bring it into the state in which the task starts. Raises StartFailed, InfraError."""

        def git() -> str:
            return delivery.bundle.program("git", self.exists) if delivery else "git"

        if problem := preparation.prepare(self._engine, self, self._task, image, git):
            raise StartFailed(problem, cause="preparation")

    def call_when_slow(self, at: float, call: Callable[[], None]) -> None:
        """Call `call` once if an answer of its shell is still awaited at `at` (`time.monotonic`)."""
        self._slow = at, call
        if self._shell:
            self._shell.call_when_slow(at, call)

    def run(
        self,
        script: str,
        *args: str,
        seconds: float,
        shown: str | None = None,
        more: Callable[[], float] | None = None,
    ) -> Result:
        """Run a command in its shell. Raises ShellDied, ShellStuck, InfraError."""
        assert self._shell is not None, "the container was not started"
        return self._shell.run(script, *args, seconds=seconds, shown=shown, more=more)

    def activity(self) -> Activity | None:
        """What its processes have used so far, by the engine's account; None where the engine doesn't know."""
        try:
            stats = self._engine.stats(self.id)
            cpu = int(stats["cpu_stats"]["cpu_usage"]["total_usage"])
            blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
            return Activity(cpu, sum(int(row["value"]) for row in blocks if str(row.get("op")).lower() == "read"))
        except (InfraError, KeyError, TypeError, ValueError):
            return None

    def target(self, path: str) -> str | None:
        """Where `path` leads, all links followed; None where nothing is. Through the archive API. Raises InfraError."""
        for _ in range(LINKS):
            about = self._engine.stat(self.id, path)
            if about is None:
                return None
            if not int(about["mode"]) & archive_api.LINK:
                return path
            path = str(about["linkTarget"])
        return None

    def head(self, path: str, size: int) -> bytes:
        """The first `size` bytes of a regular file, links followed; none of anything else. Raises InfraError."""
        place = self.target(path)
        if place is None:
            return b""
        try:
            with self._engine.read_tar(self.id, place) as tar:
                member = tar.next()
                file = tar.extractfile(member) if member and member.isreg() else None
                return file.read(size) if file else b""
        except (FileNotFoundError, tarfile.TarError):
            return b""

    def exists(self, path: str) -> bool:
        """Is there anything at `path`? Through the archive API."""
        return self._engine.stat(self.id, path) is not None

    def exit_reason(self) -> tuple[str, bool]:
        """How the container ended, and whether the host caused it rather than the image."""
        state = self._engine.state(self.id)
        if state.get("OOMKilled"):
            return f"ran out of its {self._limits.memory / (1 << 30):.3g} GiB of memory", False
        if not state or state.get("ExitCode") == 137 or state.get("Running"):
            return "was ended from outside (engine restarted, container removed, or host out of memory)", True
        return f"ended with exit status {state.get('ExitCode')}", False

    def host_ran_out(self) -> bool | None:
        """Did the kernel end one of its processes because the host has no memory left, and not for its own limit?

        None where it ended none, or nobody knows. Raises InfraError.
        """
        try:
            return {0: False, 1: True}.get(self.run(MEMORY, seconds=READY_SECONDS).code)
        except (ShellDied, ShellStuck):
            return None

    def remove(self) -> None:
        """Remove it with its volumes. Raises InfraError."""
        if self._shell:
            with contextlib.suppress(OSError):
                self._shell.close()
        if self._services:
            # What stays is the next run's to remove, as the container itself would be.
            with contextlib.suppress(InfraError):
                self._services.close()
        self._engine.remove(self.id)

    def _stop_processes(self) -> None:
        self._engine.signal(self.id, "SIGUSR1", doing="stopping a check's processes")

    def _died_at_start(self, output: str) -> Exception:
        """The container started and its shell ended without an answer."""
        if TOO_LONG.search(output[-1000:]):
            return self._too_long(output)
        error = classification.of_start(output)
        if isinstance(error, StartFailed):
            return self._explained(error)
        how, outside = self.exit_reason()
        if outside:
            return InfraError(f"a container {how} while it started")
        last = output.strip().splitlines()[-1:] or ["it printed nothing"]
        return StartFailed(f"/bin/sh {how} at once: {last[0]}", cause="shell", output=output, needs_confirmation=True)

    def _too_long(self, message: str) -> StartFailed:
        """The kernel takes 128 KiB for a variable, and a quarter of the stack for all of them."""
        name, size = max(self._sizes.items(), key=lambda item: item[1], default=("", 0))
        total = sum(self._sizes.values())
        longest = f"{name[:100]} alone has {size:,}" if total else "too many arguments"
        reason = f"the environment is too long to start a program with: {total:,} bytes in all, {longest}"
        return StartFailed(reason, cause="image", output=message)

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, StartFailed) and error.cause == "shell":
            there = True
            # A loop of symlinks is an error to the archive API: something is there then.
            with contextlib.suppress(InfraError):
                there = self.exists("/bin/sh")
            reason = "/bin/sh is there but can't be executed" if there else "there is no /bin/sh"
            return StartFailed(reason, cause="shell", output=error.output)
        return error


def reject_special_files(engine: Engine, container: str) -> None:
    """Before a container is started: an engine waits for ever on a pipe, and can't even remove the container then.

    Raises StartFailed.
    """
    for path in OPENED:
        special = False
        # What can't be resolved (a loop of links) can't be opened.
        with contextlib.suppress(InfraError):
            special = engine.is_special_file(container, path)
        if special:
            raise StartFailed(f"{path} is a pipe or a device, which engines open and hang on", cause="image")


def open_container(
    engine: Engine,
    image: Image,
    task: Task,
    session: str,
    *,
    seconds: float,
    delivery: Delivery | None = None,
    binds: Sequence[str] = (),
    prepare: Callable[[Container], None] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Container:
    """A started container, with the runtime's shell where the image's will not do.

    `prepare` is called with the container before it is started. Raises StartFailed or InfraError; nothing is left then.
    """
    own = delivery.bundle.shell if delivery else None
    for shell in (SHELL, own) if own else (SHELL,):
        assert shell is not None
        container = Container(
            engine, image, task, session, seconds=seconds, delivery=delivery, shell=shell, binds=binds, labels=labels
        )
        try:
            if prepare:
                prepare(container)
            container.start()
            container.prepare(image, delivery)
            container.start_services()
            return container
        except BaseException as error:
            with contextlib.suppress(InfraError):
                container.remove()
            if shell is own or own is None or not isinstance(error, StartFailed) or error.cause != "shell":
                raise
    raise AssertionError
