"""Decides who is at fault: the only module that interprets messages of engines and registries.

Only what is listed here as an image's own fault is held against an image. Everything unknown is infra.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker.errors
import requests.exceptions
import urllib3.exceptions

from taskgate.harness.base.errors import (
    EngineTimeout,
    EngineTooOld,
    EngineUnavailable,
    ImageNotFound,
    InfraError,
    NoSpace,
    PlatformUnavailable,
    RegistryError,
    StartFailed,
    TaskgateError,
    Unresolved,
)
from taskgate.harness.engine.image_name import login_hint, registry_of, split_tag, without_registry

DENIED = "permission denied: this user may not use the engine (is it in the engine's group, such as `docker`?)"
# An image may have written the text. Patterns are tried at every position, so that what they span is limited.
START_CHARS = 4000
NO_SPACE = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.I)

# A registry's own answer, in the words of Docker, containerd and Podman.
NOT_FOUND = re.compile(r"manifest unknown|name unknown|repository name not known to registry", re.I)
# containerd's, for any 404: the registry's, or a gateway's in front of one that is down.
SOME_404 = re.compile(r"failed to resolve reference .{0,1000}: not found", re.I)
TOO_MANY = re.compile(r"\b429\b|too ?many", re.I)
DENIED_ACCESS = re.compile(
    r"unauthorized|(?<!permission )denied|docker login|authentication required|no basic auth credentials"
    r"|forbidden|status.{0,80}\b40[13]\b",
    re.I,
)
# Answers that another try would not change.
PERMANENT = re.compile(
    r"\b400 bad request|status.{0,80}\b400\b|invalid reference|(?:name|tag)[_ ]invalid"
    r"|max depth exceeded"
    r"|(?:unsupported|unknown|invalid).{0,40}(?:compression|media ?type|mime ?type|manifest|schema)"
    r"|(?:media ?type|mime ?type|compression|manifest|schema).{0,60}(?:unsupported|not supported|no longer supported"
    r"|unknown|unrecognized)"
    r"|encountered remote .{0,300} when fetching|schema 1 .{0,100}(?:deprecated|removed|disabled)"
    r"|invalid tar header|target image does not support|invalid rootfs",
    re.I,
)
# Nobody listens at the registry's address, or it has none.
UNREACHABLE = re.compile(r"connection refused|no such host|no route to host|network is unreachable", re.I)
# Long enough for a registry to be restarted.
UNREACHABLE_SECONDS = 3.0
NO_PLATFORM = re.compile(
    r"no matching manifest for|does not match the specified platform|cannot be used on this platform"
    r"|no image found in (?:manifest list|image index) for architecture|choosing an image from manifest list",
    re.I,
)

# The last message of runc or crun if a container's command can't be executed; it is always our /bin/sh.
START = (
    ("user", re.compile(r"unable to find (?:user|group)|no matching entries in (?:passwd|group) file", re.I)),
    (
        "platform",
        re.compile(r"exec (?:user process caused|/bin/sh|container process).{0,300}exec format error", re.I),
    ),
    (
        "shell",
        re.compile(
            r"/bin/sh[\"'`]?:? .{0,300}(?:no such file|not found|permission denied|is a directory|not a directory)"
            r"|executable file [`'\"]?/bin/sh[`'\"]? not found"
            r"|exec (?:user process caused|/bin/sh|container process)"
            r".{0,300}(?:no such file|permission denied|too many levels)",
            re.I | re.S,
        ),
    ),
    ("shell", re.compile(r"too many levels of symbolic links", re.I)),
)


def of_pull(message: str, image: str) -> TaskgateError:
    """The error that a failed pull of `image` means: ImageNotFound, PlatformUnavailable, Unresolved, NoSpace or
    RegistryError, with whether another try makes sense."""
    words = _without_name(message, image)
    if NO_SPACE.search(words):
        return NoSpace(f"the engine's disk is full: {message}")
    if NO_PLATFORM.search(words):
        return PlatformUnavailable(f"{image} is not published for the platform asked for: {message}")
    reason = f"{image} could not be pulled: {message}"
    if TOO_MANY.search(words):
        return RegistryError(reason)
    # An answer that asks for a login does not tell whether the image exists, even if it adds "does not exist".
    if DENIED_ACCESS.search(words):
        return RegistryError(f"{reason}; {login_hint(registry_of(image))}", transient=False)
    if NOT_FOUND.search(words):
        return ImageNotFound(f"the registry has no such image: {message}")
    if SOME_404.search(words):
        return Unresolved(reason)
    if PERMANENT.search(words):
        return RegistryError(reason, transient=False)
    return RegistryError(reason, patience=UNREACHABLE_SECONDS if UNREACHABLE.search(words) else None)


def _without_name(message: str, image: str) -> str:
    """A port such as 42429, or a repository named `denied`, must not be taken for the reason."""
    name = image.partition("@")[0]
    repository = split_tag(name)[0]
    path = without_registry(repository)
    for part in sorted({image, name, repository, path, f"/v2/{path}/"}, key=len, reverse=True):
        if "/" in part or ":" in part or "@" in part:
            message = message.replace(part, "IMAGE")
    return message


def of_start(message: str) -> TaskgateError:
    """The error that a failed start of a created container means; `message` may be all that its shell printed."""
    message = message[-START_CHARS:]
    if NO_SPACE.search(message):
        return NoSpace(f"the engine's disk is full: {message}")
    for cause, pattern in START:
        if pattern.search(message):
            return StartFailed(message.strip(), cause=cause, output=message)
    return InfraError(f"the engine could not start the container: {message}")


@contextmanager
def translated(doing: str, *, keep: tuple[type[Exception], ...] | type[Exception] = ()) -> Iterator[None]:
    """Turn the docker SDK's errors into ours, except those in `keep`; `doing` says what failed."""
    try:
        yield
    except keep:
        raise
    except docker.errors.APIError as error:
        text = explanation(error)
        kind: type[InfraError] = NoSpace if NO_SPACE.search(text) else InfraError
        raise kind(f"{doing}: {text}") from error
    except docker.errors.InvalidVersion as error:
        raise EngineTooOld(f"{doing}: the engine is too old: {error}") from error
    except (requests.exceptions.ReadTimeout, TimeoutError, urllib3.exceptions.ReadTimeoutError) as error:
        raise EngineTimeout(f"{doing}: the engine did not answer in time") from error
    except (
        requests.exceptions.RequestException,
        docker.errors.DockerException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        # The SDK wraps all of them in errors of its own.
        if "connect timeout=" in str(error):
            raise EngineUnavailable(f"{doing}: no engine answers: the connection timed out") from error
        if "timed out" in str(error).lower():
            raise EngineTimeout(f"{doing}: the engine did not answer in time") from error
        raise EngineUnavailable(f"{doing}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """Why there is no connection to the engine."""
    cause = root_cause(error)
    if isinstance(cause, PermissionError):
        return DENIED
    if isinstance(cause, ssl.SSLError):
        return f"{reason_of(error)}: are the certificates in DOCKER_CERT_PATH those of this engine?"
    return f"no engine answers: {reason_of(error)}"


def reason_of(error: BaseException) -> str:
    """Why there is no connection, in the system's words: `connection refused`, without names of Python classes."""
    cause = root_cause(error)
    if isinstance(cause, ssl.SSLError):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS failed: certificate verify failed: {cause.verify_message}"
        return f"TLS failed: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
    text = str(getattr(cause, "strerror", None) or cause)
    return text[:1].lower() + text[1:] if isinstance(cause, OSError) else text


def root_cause(error: BaseException) -> BaseException:
    """The system's error, which libraries wrap in several of their own."""
    for _ in range(10):
        wrapped = (error.__cause__, getattr(error, "reason", None), *error.args, error.__context__)
        inner = next((item for item in wrapped if isinstance(item, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


@dataclass(frozen=True, slots=True)
class Answer:
    """The engine's answer to a call that it refused: an HTTP status, if it has one, and a text."""

    status: int | None
    text: str


def answer_of(error: BaseException) -> Answer | None:
    """The engine's answer that `translated` raised `error` for; None if there was none (a broken connection)."""
    cause = error.__cause__
    return Answer(cause.status_code, explanation(cause)) if isinstance(cause, docker.errors.APIError) else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of that answer."""
    answer = answer_of(error)
    return answer.status if answer else None


def explanation(error: docker.errors.APIError) -> str:
    """The engine's own text in an error of the SDK."""
    return str(error.explanation or error)[:4000]
