"""Whose fault is it? The one place that reads meaning out of an engine's or a registry's words.

Only what is listed as the image's own fault is ever held against an image. Everything unknown is infra.
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

DENIED = "permission denied: this user may not use the engine (is it in the engine's group, such as `docker`?)"
# An image may have written all of it. Patterns are tried at every place of a text: what they span has an end.
START_CHARS = 4000
NO_SPACE = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.I)

# Said by a registry that answered (Docker's words, containerd's, Podman's).
NOT_FOUND = re.compile(r"manifest unknown|name unknown|repository name not known to registry", re.I)
# containerd's, of every 404: the registry's, or that of a gateway before one that is down.
SOME_404 = re.compile(r"failed to resolve reference .{0,1000}: not found", re.I)
REFUSED = re.compile(r"unauthorized|denied|docker login|\b429\b|too ?many", re.I)
NO_PLATFORM = re.compile(
    r"no matching manifest for|does not match the specified platform|cannot be used on this platform"
    r"|no image found in (?:manifest list|image index) for architecture|choosing an image from manifest list",
    re.I,
)

# Said last, by runc or crun, when the container's own command can't be executed; only our /bin/sh is ever run.
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
    """What a failed pull of `image` means."""
    # A port such as 42429, or a repository named `denied`, says nothing of what happened.
    words = message.replace(image, "IMAGE").replace(image.partition("@")[0].rpartition(":")[0] or image, "IMAGE")
    if NO_SPACE.search(words):
        return NoSpace(f"the engine's disk is full: {message}")
    if NO_PLATFORM.search(words):
        return PlatformUnavailable(f"{image} is not published for the platform asked for: {message}")
    # An answer that asks for a login says nothing of what is behind it, even where it adds "does not exist".
    if NOT_FOUND.search(words) and not REFUSED.search(words):
        return ImageNotFound(f"the registry has no such image: {message}")
    if SOME_404.search(words) and not REFUSED.search(words):
        return Unresolved(f"{image} could not be pulled: {message}")
    return RegistryError(f"{image} could not be pulled: {message}")


def of_start(message: str) -> TaskgateError:
    """What it means that a created container could not be started; `message` may be all that its shell printed."""
    message = message[-START_CHARS:]
    if NO_SPACE.search(message):
        return NoSpace(f"the engine's disk is full: {message}")
    for cause, pattern in START:
        if pattern.search(message):
            return StartFailed(message.strip(), cause=cause, output=message)
    return InfraError(f"the engine could not start the container: {message}")


@contextmanager
def translated(doing: str, *, keep: tuple[type[Exception], ...] | type[Exception] = ()) -> Iterator[None]:
    """Turn the docker SDK's errors into ours, but for those in `keep`; `doing` says what failed."""
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
    except (requests.exceptions.Timeout, TimeoutError, urllib3.exceptions.ReadTimeoutError) as error:
        raise EngineTimeout(f"{doing}: the engine did not answer in time") from error
    except (
        requests.exceptions.RequestException,
        docker.errors.DockerException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        # The SDK wraps a socket's time-out in a ConnectionError.
        if "timed out" in str(error).lower():
            raise EngineTimeout(f"{doing}: the engine did not answer in time") from error
        raise EngineUnavailable(f"{doing}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """Why there is no connection, in words: libraries wrap the system's error in several of their own."""
    for _ in range(10):
        wrapped = (error.__cause__, getattr(error, "reason", None), *error.args, error.__context__)
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)
        if inner is None:
            break
        error = inner
    if isinstance(error, PermissionError):
        return DENIED
    if isinstance(error, ssl.SSLError):
        said = getattr(error, "verify_message", None) or (error.reason or str(error)).replace("_", " ").lower()
        return f"TLS failed: {said}: are the certificates in DOCKER_CERT_PATH those of this engine?"
    return f"no engine answers: {getattr(error, 'strerror', None) or error}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine answered to a call that it refused: an HTTP status, where it has one, and a text."""

    status: int | None
    text: str


def answer_of(error: BaseException) -> Answer | None:
    """The engine's answer that `translated` raised `error` for; None where there was none (a broken connection)."""
    cause = error.__cause__
    return Answer(cause.status_code, explanation(cause)) if isinstance(cause, docker.errors.APIError) else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of that answer."""
    answer = answer_of(error)
    return answer.status if answer else None


def explanation(error: docker.errors.APIError) -> str:
    """The engine's own text in an error of the SDK."""
    return str(error.explanation or error)[:4000]
