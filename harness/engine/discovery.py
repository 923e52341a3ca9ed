"""Finds the engine: from an option, DOCKER_HOST, the current docker context, or a usual socket."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import docker.utils
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.tls import TLSConfig

from taskgate.harness.base.errors import EngineUnavailable, UsageError
from taskgate.harness.engine import classification

PING_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Host:
    """An engine's URL and TLS settings."""

    url: str
    tls: TLSConfig | None = None


def find_engine(explicit: str | None = None) -> Host:
    """The engine to use: `explicit` as it is, else the first source that names one; usual sockets are tried in turn.

    Raises EngineUnavailable, with what to do, if no socket answers, and UsageError for an invalid address.
    """
    if explicit:
        _plausible(explicit, "--docker-host")
        return Host(explicit, _env_tls() if explicit.startswith("tcp") else None)
    if url := os.environ.get("DOCKER_HOST"):
        _plausible(url, "DOCKER_HOST")
        return Host(url, _env_tls())
    if host := _context():
        return host
    denied = ""
    for path in sockets():
        url = f"unix://{path}"
        # Another user's folder holds no engine for this one.
        with contextlib.suppress(PermissionError):
            if path.exists() and _answers(url):
                return Host(url)
            if path.exists() and not os.access(path, os.W_OK):
                denied = f"{path}: {classification.DENIED}\n"
    raise EngineUnavailable(
        f"{denied}"
        "no Docker or Podman engine answers at DOCKER_HOST, the docker context, or a usual socket.\n"
        "Start one (`systemctl start docker`, `podman system service -t 0 &`), or name it: --docker-host=URL"
    )


def sockets() -> list[Path]:
    """The sockets that engines usually listen on, Docker's first."""
    home = Path.home()
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return [
        Path("/var/run/docker.sock"),
        runtime / "docker.sock",
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        home / ".orbstack/run/docker.sock",
        home / ".colima/default/docker.sock",
        home / ".rd/docker.sock",
        runtime / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
    ]


def _context() -> Host | None:
    """The current docker context, unless it is the default one."""
    try:
        name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
        context = ContextAPI.get_context(name) if name and name != "default" else None
    except Exception as error:
        # The SDK raises plain Exception for invalid JSON.
        raise UsageError(f"the docker context can't be read: {error}", field="docker context") from error
    if name and name != "default" and context is None:
        raise UsageError(f"there is no docker context {name!r}", field="docker context")
    if context is None or not context.Host:
        return None
    _plausible(context.Host, f"docker context {name}")
    return Host(context.Host, context.TLSConfig or None)


def _plausible(url: str, origin: str) -> None:
    """Raises UsageError for an invalid URL; other mistakes show when it is connected to."""
    try:
        with contextlib.suppress(docker.errors.DockerException):
            docker.utils.parse_host(url)
    except ValueError as error:
        raise UsageError(f"{url!r} is not an engine's address: {error}", field=origin) from error


def _env_tls() -> TLSConfig | None:
    """DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, as the docker client understands them."""
    try:
        return docker.utils.kwargs_from_env().get("tls") or None
    except docker.errors.TLSParameterError as error:
        folder = os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker"
        raise UsageError(f"{folder} lacks ca.pem, cert.pem or key.pem", field="DOCKER_CERT_PATH") from error


def _answers(url: str) -> bool:
    try:
        client = docker.APIClient(base_url=url, version="auto", timeout=PING_SECONDS)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):
        return False
