"""The provider: a container for each sample, commands and files through the container library."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, overload

import anyio
import anyio.to_thread
import docker
import docker.errors
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    sandboxenv,
)
from inspect_ai.util._sandbox.environment import SandboxUnavailableError
from pydantic import BaseModel, ConfigDict

from taskgate.harness.base.errors import CommandNotPermitted, InfraError, PathNotPermitted, PathTooLarge
from taskgate.harness.engine import classification
from taskgate.harness.engine.discovery import find_engine
from taskgate.harness.sandbox import container_files
from taskgate.harness.sandbox.execute import TIMED_OUT, Executed, execute
from taskgate.harness.sandbox.lifecycle import cleanup_container

LABEL = "taskgate.inspect-sandbox"
CALL_SECONDS = 60
T = TypeVar("T")


class SandboxConfig(BaseModel):
    """What a sample's container is made from. The image has to be on the engine.

    `user`, `workdir` and `environment` are the image's own where they are not given. `memory` is written as in `docker
    run`, such as `4g`. `engine` is a URL; the default is the engine that taskgate itself would use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    user: str | None = None
    workdir: str | None = None
    environment: dict[str, str] = {}
    network: str = "none"
    memory: str | None = None
    cpus: float | None = None
    engine: str | None = None


@sandboxenv(name="taskgate")
class TaskgateSandbox(SandboxEnvironment):
    """A running container. It needs /bin/sh, and `cat` and `mkdir` for files."""

    def __init__(self, container: Any, workdir: str) -> None:
        super().__init__()
        self.container, self.workdir = container, workdir

    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        if isinstance(config, str):
            config = SandboxConfig(image=config)
        if not isinstance(config, SandboxConfig):
            raise ValueError('sandbox "taskgate" needs an image: ("taskgate", "IMAGE"), or a SandboxConfig')
        return {"default": await anyio.to_thread.run_sync(_start, config)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        with anyio.CancelScope(shield=True):
            for environment in environments.values():
                await anyio.to_thread.run_sync(environment.as_type(TaskgateSandbox)._remove)

    @classmethod
    async def cli_cleanup(cls, id: str | None) -> None:
        await anyio.to_thread.run_sync(_remove_all, id)

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return SandboxConfig(**config)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """As inspect_ai defines it. At the timeout, or when the sample is cancelled, all processes of the command are
        killed; it is never tried again."""
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        run = partial(
            execute,
            self.container,
            cmd,
            stdin=input,
            workdir=self._path(cwd or ""),
            environment=env,
            user=user or "",
            timeout=timeout,
            # Of each stream.
            limit=2 * limit,
        )
        done = await _in_thread(lambda cancel: run(cancel=cancel))
        if isinstance(done.start_error, CommandNotPermitted):
            raise done.start_error
        if done.start_error:
            return ExecResult(False, done.exit_code, "", str(done.start_error))
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        self._check(done, limit, out + err)
        return ExecResult(done.exit_code == 0, done.exit_code, out, err)

    @staticmethod
    def _check(done: Executed, limit: int, output: str) -> None:
        if done.stopped and done.stopped.startswith(TIMED_OUT):
            error = TimeoutError(f"the command {done.stopped}")
            # inspect_ai shows it to the model.
            error.truncated_output = output  # type: ignore[attr-defined]
            raise error
        if done.stopped or max(len(done.stdout), len(done.stderr)) > limit:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, output[:limit])

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        path = self._path(file)
        await _in_thread(lambda _: container_files.write_bytes(self.container, path, data, user=""))

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        try:
            data = await _in_thread(lambda _: self._read(self._path(file), limit))
        except PathTooLarge as error:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error
        return data.decode() if text else data

    def _read(self, path: str, limit: int) -> bytes:
        about = container_files.stat(self.container, path)
        # As inspect_ai's own Docker provider: what nobody may read, root may not read either.
        if about and about.kind == "file" and not about.mode & 0o444:
            raise PathNotPermitted(f"{path}: Permission denied")
        if about and about.kind == "file" and about.size > limit:
            raise PathTooLarge(f"{path} has {about.size:,} bytes, more than {limit:,}")
        return container_files.read_bytes(self.container, path, user="", limit=limit)

    async def connection(self, *, user: str | None = None) -> SandboxConnection:
        option = f" --user {user}" if user else ""
        command = f"docker exec -it{option} {self.container.id} /bin/sh"
        return SandboxConnection(type="taskgate", command=command, container=self.container.name)

    def _path(self, path: str) -> str:
        return posixpath.join(self.workdir, path)

    def _remove(self) -> None:
        cleanup_container(self.container, verbose=False)
        self.container.client.close()


async def _in_thread(run: Callable[[threading.Event], T]) -> T:
    """Call `run` in a thread; its event is set if the caller is cancelled meanwhile."""
    cancel = threading.Event()
    try:
        # A limiter of its own: a command may take hours, and anyio's has 40 places.
        return await anyio.to_thread.run_sync(run, cancel, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
    except InfraError as error:
        raise SandboxUnavailableError(str(error)) from error
    finally:
        cancel.set()


def _connect(url: str | None) -> docker.DockerClient:
    engine = find_engine(url)
    return docker.DockerClient(
        base_url=engine.url, tls=engine.tls or False, version="auto", timeout=CALL_SECONDS, max_pool_size=100
    )


def _start(config: SandboxConfig) -> TaskgateSandbox:
    """A container that waits: its shell reads a stdin that never comes. Raises InfraError."""
    with classification.translated("connecting to the engine"):
        client = _connect(config.engine)
    with classification.translated(f"starting a container of {config.image}"):
        container = client.containers.run(
            config.image,
            entrypoint=["/bin/sh"],
            command=[],
            stdin_open=True,
            detach=True,
            init=True,
            user=config.user,
            working_dir=config.workdir,
            environment=dict(config.environment),
            network_mode=config.network,
            mem_limit=config.memory,
            nano_cpus=round(config.cpus * 1e9) if config.cpus else None,
            labels={LABEL: "1"},
        )
        container.reload()
    return TaskgateSandbox(container, container.attrs["Config"].get("WorkingDir") or "/")


def _remove_all(container_id: str | None) -> None:
    """Remove one of this provider's containers, or all of them."""
    client = _connect(None)
    try:
        for container in client.containers.list(all=True, filters={"label": LABEL}):
            if container_id is None or str(container.id).startswith(container_id) or container.name == container_id:
                cleanup_container(container, verbose=False)
    finally:
        client.close()
