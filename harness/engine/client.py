"""The Docker (or Podman) engine: one client, time limits on every call, its errors turned into ours."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from taskgate.harness.base.errors import (
    EngineTimeout,
    EngineUnavailable,
    ImageNotFound,
    InfraError,
    RegistryError,
    TaskgateError,
    Unresolved,
)
from taskgate.harness.base.locks import pull_slot
from taskgate.harness.base.redaction import masked
from taskgate.harness.engine import classification
from taskgate.harness.engine.discovery import find_engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.registries.reference import Reference
from taskgate.harness.engine.registries.registry_client import Client

CALL_SECONDS = 60
# Docker's pull says nothing while it extracts a large layer.
PULL_SILENCE_SECONDS = 300
REMOVALS = 5

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Image:
    """What the engine says of an image it has.

    `digest` is its content-addressed id, `sha256:…`; `workdir` its WORKDIR, empty where it sets none.
    """

    digest: str
    platform: str
    user: str
    env: Mapping[str, str]
    healthcheck: bool
    workdir: str = ""


class _Client(docker.APIClient):
    """The SDK's, but an engine's own authority counts also where REQUESTS_CA_BUNDLE names those of the web, and what
    the SDK would wait for without end, such as a pull, may be silent for `silence` seconds."""

    silence: float | None = None

    def post(self, url: Any, data: Any = None, json: Any = None, **kwargs: Any) -> Any:
        """The SDK attaches by this, and would wait for an engine that hangs without end."""
        kwargs.setdefault("timeout", self.timeout)
        return super().post(url, data, json, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs.setdefault("timeout", self.timeout) is None:
            kwargs["timeout"] = self.silence
        return kwargs


class Engine:
    """One engine, as one process uses it. Not thread-safe: one per worker.

    `listing`: digests come out of one listing of all images, which is as old as the first question.
    """

    def __init__(self, url: str | None = None, *, pulls: int = 3, listing: bool = True) -> None:
        host = find_engine(url)
        self.url = host.url
        with classification.translated(f"connecting to {masked(host.url)}"):
            self.api = _Client(
                base_url=host.url,
                version="auto",
                timeout=CALL_SECONDS,
                tls=host.tls or False,
                max_pool_size=4,
            )
            about = self.api.version()
        self.podman = any("podman" in str(part.get("Name", "")).lower() for part in about.get("Components") or ())
        # Docker fetches a layer that two images share once, Podman twice.
        self.pulls = 1 if self.podman else pulls
        self.platform = platform(about.get("Os"), about.get("Arch"))
        self._listing = listing
        self._digests: dict[str, str | None] | None = None
        self._registries: dict[str, Client] = {}

    def close(self) -> None:
        self.api.close()

    def alive(self) -> bool:
        try:
            with classification.translated("ping"):
                return bool(self.api.ping())
        except InfraError:
            return False

    def digest(self, reference: str) -> str | None:
        """The digest of a local image, without a question of its own where the listing tells; None where the engine
        has none of that name. Raises InfraError."""
        name = full_name(reference, localhost=self.podman)
        if self._listing:
            if self._digests is None:
                self._digests = self._listed()
            # Two images may have that name on Podman: the engine knows which one it would take.
            if name not in self._digests or self._digests[name]:
                return self._digests.get(name)
        found = self.local(reference)
        return found.digest if found else None

    def _listed(self) -> dict[str, str | None]:
        """Digests by name; None for a name of several images."""
        listed: dict[str, str | None] = {}
        for tag, digest in self._named():
            name = full_name(tag, localhost=self.podman)
            listed[name] = digest if listed.get(name, digest) == digest else None
        return listed

    def tags(self) -> list[str]:
        """The names of all local images that have one. Raises InfraError."""
        return sorted({tag for tag, _ in self._named()})

    def _named(self) -> list[tuple[str, str]]:
        with classification.translated("listing images"):
            listed = self.api.images()
        named = [(tag, image["Id"]) for image in listed for tag in image.get("RepoTags") or () if tag]
        return [(tag, digest) for tag, digest in named if "<none>" not in tag]

    def image(self, request: ImageRequest) -> Image:
        """The image, pulled if its `pull` says so.

        Raises ImageNotFound, PlatformUnavailable, or InfraError.
        """
        if request.pull != "always" and (found := self.local(request.image)):
            return found
        if request.pull == "never":
            raise ImageNotFound(f"{request.image} is not on the engine, and `pull` is never")
        try:
            with pull_slot(self.url, request.image, self.pulls):
                # Another worker may have brought it while this one waited.
                if request.pull != "always" and (found := self.local(request.image)):
                    return found
                self._pull(request.image, request.platform)
        except Unresolved as error:
            raise self._resolved(request.image, error) from error
        if found := self.local(request.image):
            return found
        raise InfraError(f"{request.image} was pulled, but the engine doesn't find it")

    def inspect(self, reference: str) -> dict[str, Any] | None:
        """What the engine says of a local image, in its own words; None where it has none of that name."""
        try:
            with classification.translated(f"inspecting {reference}", keep=docker.errors.NotFound):
                return dict(self.api.inspect_image(reference))  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            return None

    def local(self, reference: str) -> Image | None:
        """A local image; None where the engine has none of that name. Raises InfraError."""
        about = self.inspect(reference)
        if about is None:
            return None
        config = about.get("Config") or {}
        env = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        digest = str(about["Id"])
        return Image(
            digest=digest if digest.startswith("sha256:") else f"sha256:{digest}",
            platform=platform(about.get("Os"), about.get("Architecture"), about.get("Variant")),
            user=config.get("User") or "",
            env=env,
            healthcheck=bool(config.get("Healthcheck")),
            workdir=config.get("WorkingDir") or "",
        )

    def _pull(self, reference: str, wanted: str) -> None:
        repository, tag = _split(reference)
        self.api.silence = PULL_SILENCE_SECONDS
        try:
            with classification.translated(f"pulling {reference}"):
                for event in self.api.pull(repository, tag=tag, platform=wanted, stream=True, decode=True):
                    if "error" in event:
                        raise classification.of_pull(str(event["error"])[:4000], reference)
        except json.JSONDecodeError as error:
            raise InfraError(f"pulling {reference}: the engine's answer was cut short") from error
        except InfraError as error:
            if isinstance(error, EngineTimeout) and self.alive():
                # It has not forgotten us: what it waits for is the registry.
                silent = f"{reference} could not be pulled: nothing came for {PULL_SILENCE_SECONDS} s"
                raise RegistryError(silent) from error
            if isinstance(error.__cause__, docker.errors.APIError):
                raise classification.of_pull(classification.explanation(error.__cause__), reference) from error
            raise
        finally:
            self.api.silence = None

    def _resolved(self, reference: str, error: Unresolved) -> TaskgateError:
        """What it is, by the words of the registry itself. Raises ImageNotFound for what can't be a name."""
        asked = Reference.parse(reference)
        client = self._registries.setdefault(asked.registry, Client(asked.registry))
        try:
            if client.exists(asked):
                return error
        except RegistryError as unclear:
            return RegistryError(f"{error}; asked whether it said so: {unclear}")
        return ImageNotFound(f"the registry has no such image: {error}")

    def containers(self, label: str) -> Iterator[tuple[str, dict[str, str]]]:
        """The ids and labels of all containers that carry `label`, running or not."""
        with classification.translated("listing containers"):
            for found in self.api.containers(all=True, filters={"label": label}):
                yield found["Id"], found.get("Labels") or {}

    def image_labels(self, container_id: str) -> dict[str, str]:
        """The labels of a container's image, which the container bears as well; none where either is gone."""
        with contextlib.suppress(InfraError), classification.translated("inspecting a container"):
            about = self.inspect(self.api.inspect_container(container_id)["Image"]) or {}
            return dict((about.get("Config") or {}).get("Labels") or {})
        return {}

    def volumes(self, label: str) -> Iterator[tuple[str, dict[str, str]]]:
        """The names and labels of all volumes that carry `label`."""
        with classification.translated("listing volumes"):
            for found in self.api.volumes(filters={"label": label}).get("Volumes") or ():
                yield found["Name"], found.get("Labels") or {}

    def remove_volume(self, name: str) -> bool:
        """Remove a volume; one that is gone is fine, one that a container uses is left (False). Raises InfraError."""
        try:
            with classification.translated("removing a volume"):
                self.api.remove_volume(name)
        except InfraError as error:
            status = getattr(error.__cause__, "status_code", None)
            if status not in (404, 409):
                raise
            return bool(status == 404)
        return True

    def remove(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes, running or not; one that is gone is fine."""
        for left in range(REMOVALS, -1, -1):
            try:
                with classification.translated("removing a container"):
                    self.api.remove_container(container_id, force=True, v=True)
                return
            except InfraError as error:
                cause = error.__cause__
                said = classification.explanation(cause) if isinstance(cause, docker.errors.APIError) else ""
                if isinstance(cause, docker.errors.NotFound) or "already in progress" in said:
                    return
                # So Podman says of a container that ended by itself a moment before.
                if not left or "could not be stopped" not in said:
                    raise
                time.sleep(0.2)

    def state(self, container_id: str) -> dict[str, Any]:
        """Docker's `State` of a container: ExitCode, OOMKilled, Error and so on; empty if it is gone."""
        with contextlib.suppress(InfraError), classification.translated("inspecting a container"):
            return dict(self.api.inspect_container(container_id).get("State") or {})
        return {}


def first_engine(urls: Sequence[str | None], *, pulls: int = 3) -> Engine:
    """The first of these engines that answers. Raises the last one's EngineUnavailable or EngineTimeout."""
    for url in urls[:-1]:
        with contextlib.suppress(EngineUnavailable, EngineTimeout):
            return Engine(url, pulls=pulls)
    return Engine(urls[-1], pulls=pulls)


def platform(os: str | None, architecture: str | None, variant: str | None = None) -> str:
    """`linux/arm64/v8`, in the words that image configurations use; empty parts are left out."""
    arch = ARCHITECTURES.get(architecture or "", architecture or "")
    return "/".join(part for part in ((os or "linux").lower(), arch, variant) if part)


def _split(reference: str) -> tuple[str, str]:
    """Repository, and the tag or digest that the pull call wants apart."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    repository, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return reference, "latest"


def full_name(reference: str, *, localhost: bool = True) -> str:
    """One spelling for one image: `docker.io/library/x:latest`, `library/x` and `x`; with `localhost` also
    `localhost/x`, which is what Podman calls an `x` that was built there, and another image to Docker."""
    name = re.sub(r"^(?:docker\.io|localhost)/" if localhost else r"^docker\.io/", "", reference)
    name = name.removeprefix("library/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
