"""Containers: created, started, waited for, read from and written to, removed."""

from __future__ import annotations

import contextlib
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import IO, Any

from docker.types import Healthcheck, LogConfig

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import archive_api, classification, ownership, sdk
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.connection import Connection

REMOVALS = 5


class Containers(Connection):
    """The container API. Every method raises InfraError if the engine fails, hangs or is gone.

    `doing` is what error messages say failed. Containers are named by id.
    """

    def create_container(
        self,
        image: str,
        argv: Sequence[str],
        *,
        labels: Mapping[str, str],
        doing: str = "creating a container",
        user: str | None = None,
        workdir: str | None = "/",
        environment: Mapping[str, str] | None = None,
        stdin: bool = False,
        publish: int | None = None,
        healthcheck: bool = True,
        logged: bool = True,
        **host: Any,
    ) -> str:
        """Create a container of `image` (a name or an id) that will run `argv`; returns its id.

        The image's ENTRYPOINT and CMD are not used. `publish`: a port to publish on the host's loopback interface.
        `healthcheck` False: the image's is turned off. `logged` False: output goes to an attached stream only, not to
        the host's disk. `host`: the parameters of the SDK's `create_host_config`.
        """
        with classification.translated(doing):
            config = self.api.create_host_config(
                log_config=None if logged else LogConfig(type="none"),
                port_bindings={publish: ("127.0.0.1",)} if publish else None,
                **host,
            )
            container = self.api.create_container(
                image,
                entrypoint=list(argv),
                command=[],
                user=user,
                working_dir=workdir,
                stdin_open=stdin,
                environment=dict(environment) if environment else None,
                ports=[publish] if publish else None,
                healthcheck=None if healthcheck else Healthcheck(test=["NONE"]),
                labels=dict(labels),
                host_config=config,
            )
        return str(container["Id"])

    @contextmanager
    def temporary_container(
        self, image: str, argv: Sequence[str] = ("none",), *, seconds: float, **options: Any
    ) -> Iterator[str]:
        """A created container that is removed at the end; `options` as for `create_container`.

        `seconds`: after this time it counts as abandoned, should this process be killed.
        """
        labels = ownership.labels(ownership.new_session(), seconds)
        container = self.create_container(image, argv, labels=labels, **options)
        try:
            yield container
        finally:
            self.remove(container)

    def start_container(self, container: str, *, doing: str = "starting a container") -> None:
        """Start it. If the engine refuses, `classification.answer_of(error)` has its answer."""
        with classification.translated(doing):
            self.api.start(container)

    def attach(self, container: str, *, output: bool = True, doing: str = "attaching to a container") -> AttachStream:
        """A stream to its stdin and, with `output`, from its stdout and stderr; also before it is started."""
        params = {"stdin": 1, "stream": 1, **({"stdout": 1, "stderr": 1, "logs": 0} if output else {})}
        with classification.translated(doing):
            return AttachStream(self.api.attach_socket(container, params=params))

    def signal(self, container: str, name: str = "SIGKILL", *, doing: str = "signalling a container") -> None:
        """Send a signal to its process 1."""
        with classification.translated(doing):
            self.api.kill(container, signal=name)

    def run_to_end(
        self, container: str, *, seconds: float, doing: str = "running a container", last_lines: int | None = None
    ) -> tuple[int, str]:
        """Start it and wait for its end; returns exit status and output. Raises EngineTimeout after `seconds`."""
        with classification.translated(doing):
            self.api.start(container)
            status = self.api.wait(container, timeout=seconds)["StatusCode"]
            output = self.api.logs(container, tail=last_lines or "all").decode("utf-8", "replace")
        return int(status), output

    def output(self, container: str, *, last_lines: int) -> str:
        """The last lines that it printed, running or not."""
        with classification.translated("reading what a container printed"):
            return str(self.api.logs(container, tail=last_lines).decode("utf-8", "replace"))

    def published_port(self, container: str, inner: int) -> int | None:
        """The host's port that `inner` is published on; None if the engine published none."""
        with classification.translated("asking for a published port"):
            bound = self.api.port(container, inner)
        return int(bound[0]["HostPort"]) if bound else None

    def state(self, container: str) -> dict[str, Any]:
        """Docker's `State` of a container: ExitCode, OOMKilled, Error and so on; empty if it is gone."""
        with contextlib.suppress(InfraError), classification.translated("inspecting a container"):
            return dict(self.api.inspect_container(container).get("State") or {})
        return {}

    def written_bytes(self, container: str, *, seconds: float | None = None) -> int:
        """Bytes that it has written to its own file system. The engine measures for up to `seconds`."""
        with classification.translated("asking for a container's size"):
            return int(sdk.inspect_with_size(self.api, container, seconds).get("SizeRw") or 0)

    def stats(self, container: str) -> dict[str, Any]:
        """What it has used so far, as `GET /containers/ID/stats` has it: `cpu_stats`, `blkio_stats` and so on."""
        with classification.translated("asking what a container uses"):
            return sdk.stats(self.api, container)

    def stat(self, container: str, path: str) -> dict[str, Any] | None:
        """What is at a path of a container, running or not; None for nothing. See `archive_api.stat`."""
        return archive_api.stat(self.api, container, path)

    def is_special_file(self, container: str, path: str) -> bool:
        """Is it a pipe, a socket or a device, links followed?"""
        return archive_api.is_special_file(self.api, container, path)

    def read_tar(self, container: str, path: str) -> AbstractContextManager[tarfile.TarFile]:
        """The tar of a file or folder, for one pass. Raises FileNotFoundError as well."""
        return archive_api.tar(self.api, container, path)

    def put_tar(
        self,
        container: str,
        folder: str,
        data: bytes | IO[bytes] | Iterator[bytes],
        *,
        keep_folders: bool = False,
        doing: str | None = None,
    ) -> None:
        """Unpack a tar into an existing folder. `keep_folders`: refuse to replace a folder by a file, or a file by a
        folder."""
        with classification.translated(doing or f"writing to {folder} in a container"):
            sdk.put_archive(self.api, container, folder, data, keep_folders=keep_folders)

    def as_sdk_container(self, container: str) -> Any:
        """A docker SDK container as the container library's functions take it, as far as they use it."""
        return SimpleNamespace(id=container, client=SimpleNamespace(api=self.api))

    def containers(self, label: str) -> Iterator[tuple[str, dict[str, str]]]:
        """The ids and labels of all containers that carry `label`, running or not."""
        with classification.translated("listing containers"):
            for container in self.api.containers(all=True, filters={"label": label}):
                yield container["Id"], container.get("Labels") or {}

    def image_labels(self, container: str) -> dict[str, str]:
        """The labels of a container's image, which the container has as well; none if either is gone."""
        with contextlib.suppress(InfraError), classification.translated("inspecting a container"):
            image = self.api.inspect_container(container)["Image"]
            about = self.api.inspect_image(image)
            return dict((about.get("Config") or {}).get("Labels") or {})
        return {}

    def remove(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes, running or not. No error if it is gone."""
        for left in range(REMOVALS, -1, -1):
            try:
                with classification.translated("removing a container"):
                    self.api.remove_container(container_id, force=True, v=True)
                return
            except InfraError as error:
                answer = classification.answer_of(error)
                text = answer.text if answer else ""
                if (answer and answer.status == 404) or "already in progress" in text:
                    return
                # Podman's answer for a container that ended by itself a moment before.
                if not left or "could not be stopped" not in text:
                    raise
                time.sleep(0.2)
