"""Images on the engine: looked up, pulled, tagged, loaded, built, pushed, removed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import docker.errors

from taskgate.harness.base.errors import (
    EngineTimeout,
    ImageNotFound,
    ImageRefused,
    InfraError,
    NoSpace,
    NotOnHost,
    RegistryError,
    TaskgateError,
    Unresolved,
)
from taskgate.harness.base.locks import pull_slot
from taskgate.harness.engine import classification, image_name
from taskgate.harness.engine.connection import Connection
from taskgate.harness.engine.image_name import full_name
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.platforms import platform
from taskgate.harness.engine.registries.reference import Reference
from taskgate.harness.engine.registries.registry_client import Client

# Docker's pull is silent while it extracts a large layer.
PULL_SILENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the engine.

    `digest` is its content-addressed id, `sha256:…`; what it is a hash of depends on the engine's store. `aliases` are
    digests that are the same on every engine: those of its repositories, and `content:…`, a hash of its layers and
    configuration. `workdir` is its WORKDIR, empty if it sets none; `entrypoint` is its ENTRYPOINT and CMD in one argv.
    """

    digest: str
    platform: str
    user: str
    env: Mapping[str, str]
    healthcheck: bool
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """All of them, `digest` first."""
        return (self.digest, *(alias for alias in self.aliases if alias != self.digest))


class Images(Connection):
    """The image API. Every method raises InfraError if the engine fails, hangs or is gone."""

    def __init__(self, url: str | None = None, *, pulls: int = 3, listing: bool = True) -> None:
        """`pulls`: how many run at once on this host. `listing`: take digests from a listing of all images, as of the
        first call."""
        super().__init__(url)
        # Docker fetches a layer that two images share once, Podman twice.
        self.pulls = 1 if self.podman else pulls
        self._listing = listing
        self._digests: dict[str, str | None] | None = None
        self._registries: dict[str, Client] = {}
        # When each registry that can't be reached was first tried.
        self._unreachable: dict[str, float] = {}

    def digest(self, reference: str) -> str | None:
        """The digest of a local image, from the listing if there is one; None if the engine has no such image."""
        name = full_name(reference, localhost=self.podman)
        if self._listing:
            if self._digests is None:
                self._digests = self._listed()
            # On Podman two images may have that name: the engine knows which one it takes.
            if name not in self._digests or self._digests[name]:
                return self._digests.get(name)
        image = self.local(reference)
        return image.digest if image else None

    def tags(self) -> list[str]:
        """The names of all local images that have one."""
        return sorted({tag for tag, _ in self._named()})

    def labelled_images(self, label: str) -> dict[str, str]:
        """The images that carry `label`: each name (or id, where it has none) and the label's value."""
        with classification.translated("listing images"):
            images = self.api.images(filters={"label": label})
        return {
            tag: str((image.get("Labels") or {}).get(label, ""))
            for image in images
            for tag in image.get("RepoTags") or [image["Id"]]
        }

    def has_tag(self, tag: str) -> bool:
        """Is there an image of exactly that name?"""
        with classification.translated("listing images"):
            return any(tag in (image.get("RepoTags") or ()) for image in self.api.images(name=tag))

    def image(self, request: ImageRequest) -> Image:
        """The image, pulled if its `pull` says so.

        Raises ImageNotFound, PlatformUnavailable, NotOnHost (`pull` is never), or another InfraError.
        """
        if request.pull != "always" and (image := self.local(request.image)):
            return image
        if not image_name.is_valid(request.image):
            Reference.parse(request.image)
        if request.pull == "never":
            raise NotOnHost(
                f"{request.image} is not on this host, and `pull: never` forbids pulling it: bring it here, "
                "or write `pull: missing`"
            )
        try:
            with pull_slot(self.url, request.image, self.pulls):
                # Another worker may have pulled it while this one waited.
                if request.pull != "always" and (image := self.local(request.image)):
                    return image
                self._pull(request.image, request.platform)
        except Unresolved as error:
            raise self._resolved(request.image, error) from error
        if image := self.local(request.image):
            return image
        raise InfraError(f"{request.image} was pulled, but the engine does not have it")

    def inspect(self, reference: str) -> dict[str, Any] | None:
        """The engine's own description of a local image; None if it has no such image."""
        if not image_name.is_valid(reference):
            return None
        try:
            with classification.translated(f"inspecting {reference}", keep=docker.errors.NotFound):
                return dict(self.api.inspect_image(reference))
        except docker.errors.NotFound:
            return None

    def local(self, reference: str) -> Image | None:
        """A local image; None if the engine has no such image."""
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
            entrypoint=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
            workdir=config.get("WorkingDir") or "",
            aliases=_aliases(about),
        )

    def history(self, reference: str) -> list[dict[str, Any]]:
        """The entries of the history API, newest first."""
        with classification.translated(f"reading the history of {reference}"):
            return list(self.api.history(reference))

    def tag(self, reference: str, name: str) -> None:
        """Give an image another name, `repository:tag`."""
        repository, tag = image_name.split(name)
        with classification.translated(f"tagging {reference}"):
            self.api.tag(reference, repository, tag)

    def remove_image(self, name: str, *, prune: bool = True) -> bool:
        """Remove an image, or only this name if it has others; False if it is in use or was not there.

        `prune` False: keep unnamed parents.
        """
        try:
            with classification.translated(f"removing {name}"):
                self.api.remove_image(name, noprune=not prune)
        except InfraError as error:
            if classification.status_of(error) not in (404, 409):
                raise
            return False
        return True

    def load_image(self, tar: bytes | Iterable[bytes], name: str, *, seconds: float) -> None:
        """Load a tar as `docker save` writes it. Raises ImageRefused if the engine rejects it, NoSpace."""
        usual, self.api.timeout = self.api.timeout, seconds
        try:
            with classification.translated(f"loading {name}"):
                try:
                    for event in self.api.load_image(tar):
                        if "error" in event:
                            raise _refusal(name, str(event["error"]))
                except (docker.errors.ImageLoadError, docker.errors.APIError) as error:
                    raise _refusal(name, str(error)) from error
        finally:
            self.api.timeout = usual

    def build_image(
        self,
        context: IO[bytes],
        tag: str,
        *,
        silence: float,
        dockerfile: str | None = None,
        args: Mapping[str, str] | None = None,
        target: str | None = None,
        network: str | None = None,
        platform: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Build from a tar; yields the engine's events (`stream`, `status`, `error`). Raises EngineTimeout after
        `silence` seconds without an event."""
        with classification.translated(f"building {tag}"):
            yield from self.api.build(
                fileobj=context, custom_context=True, dockerfile=dockerfile, buildargs=dict(args) if args else None,
                target=target, tag=tag, rm=True, forcerm=True, decode=True, timeout=silence, network_mode=network,
                platform=platform,
            )  # fmt: skip

    def push(self, tag: str) -> None:
        """Push an image. Raises RegistryError as well."""
        repository, name = image_name.split(tag)
        with classification.translated(f"pushing {tag}"):
            try:
                for event in self.api.push(repository, tag=name, stream=True, decode=True):
                    if "error" in event:
                        raise RegistryError(f"pushing {tag}: {str(event['error'])[:2000]}")
            except docker.errors.APIError as error:
                raise RegistryError(f"pushing {tag}: {classification.explanation(error)}") from error

    def _listed(self) -> dict[str, str | None]:
        """Digests by name; None for a name of several images."""
        listed: dict[str, str | None] = {}
        for tag, digest in self._named():
            name = full_name(tag, localhost=self.podman)
            listed[name] = digest if listed.get(name, digest) == digest else None
        return listed

    def _named(self) -> list[tuple[str, str]]:
        with classification.translated("listing images"):
            images = self.api.images()
        named = [(tag, image["Id"]) for image in images for tag in image.get("RepoTags") or () if tag]
        return [(tag, digest) for tag, digest in named if "<none>" not in tag]

    def _pull(self, reference: str, wanted: str) -> None:
        repository, tag = image_name.split(reference)
        self.api.silence = PULL_SILENCE_SECONDS
        try:
            with classification.translated(f"pulling {reference}"):
                for event in self.api.pull(repository, tag=tag, platform=wanted, stream=True, decode=True):
                    if "error" in event:
                        raise self._failed_pull(str(event["error"])[:4000], reference)
            self._unreachable.pop(image_name.registry_of(reference), None)
        except json.JSONDecodeError as error:
            raise InfraError(f"pulling {reference}: the engine's answer was cut short") from error
        except InfraError as error:
            if isinstance(error, EngineTimeout) and self.alive():
                # The engine answers, so it is waiting for the registry.
                silent = f"{reference} could not be pulled: no data for {PULL_SILENCE_SECONDS} s"
                raise RegistryError(silent) from error
            if answer := classification.answer_of(error):
                raise self._failed_pull(answer.text, reference) from error
            raise
        finally:
            self.api.silence = None

    def _failed_pull(self, message: str, reference: str) -> TaskgateError:
        """The error that a failed pull means. A registry that can't be reached is waited for once, not with each of
        its images."""
        error, registry = classification.of_pull(message, reference), image_name.registry_of(reference)
        if not isinstance(error, RegistryError) or error.patience is None:
            self._unreachable.pop(registry, None)
            return error
        since = time.monotonic() - self._unreachable.setdefault(registry, time.monotonic())
        if since >= error.patience:
            error.patience = 0.0
        return error

    def _resolved(self, reference: str, error: Unresolved) -> TaskgateError:
        """The error that the registry's own answer makes of it. Raises ImageNotFound for an invalid name."""
        name = Reference.parse(reference)
        client = self._registries.setdefault(name.registry, Client(name.registry))
        try:
            if client.exists(name):
                return error
        except RegistryError as unclear:
            message = f"{error}; the registry, asked directly: {unclear}"
            return RegistryError(message, transient=unclear.transient, patience=unclear.patience)
        return ImageNotFound(f"the registry has no such image: {error}")


def _refusal(name: str, text: str) -> InfraError:
    if classification.NO_SPACE.search(text):
        return NoSpace(f"loading {name}: the engine's disk is full: {text[:2000]}")
    return ImageRefused(f"the engine refused to load {name}: {text[:2000]}")


# Fields of a configuration that every store reports alike; empty values are spelled in several ways.
_CONFIGURATION = ("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "ExposedPorts", "Volumes")


def _aliases(about: Mapping[str, Any]) -> tuple[str, ...]:
    """An image's other digests, from its inspection."""
    published = sorted({str(name).partition("@")[2] for name in about.get("RepoDigests") or () if "@" in str(name)})
    layers = (about.get("RootFS") or {}).get("Layers")
    if not layers:
        return tuple(published)
    config = about.get("Config") or {}
    content = [about.get("Os"), about.get("Architecture"), layers, *(config.get(key) or None for key in _CONFIGURATION)]
    text = json.dumps(content, sort_keys=True, default=str)
    return (*published, f"content:{hashlib.sha256(text.encode()).hexdigest()}")
