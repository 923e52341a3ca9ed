"""Image names, by the grammar of the distribution project: https://github.com/distribution/reference.

[registry[:port]/]path[:tag][@algorithm:digest]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = "docker.io"

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]+)?",
    re.ASCII,
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[a-z][a-z0-9]*(?:[-_+.][a-z][a-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
PATH_LENGTH, TAG_LENGTH = 255, 128


@dataclass(frozen=True, slots=True)
class ImageName:
    """`registry` is a host, with its port if the name has one; `tag` and `digest` may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """The digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Raises ValueError, with the reason, for an invalid name."""
        name, at, digest = text.partition("@")
        if at:
            _check_digest(digest)
        repository, colon, tag = split_tag(name)
        if colon:
            _check_tag(tag)
        registry, path = _split_registry(repository)
        if not _HOST.fullmatch(registry):
            raise ValueError(f"{registry[:100]!r} is not a valid registry host")
        _check_path(path)
        if registry == HUB and "/" not in path:
            path = f"library/{path}"
        return cls(registry, path, tag, digest)


def split_tag(name: str) -> tuple[str, str, str]:
    """Repository, `:` and tag; the last two are empty if there is no tag. A port's colon does not start one."""
    repository, colon, tag = name.rpartition(":")
    return (name, "", "") if not colon or "/" in tag else (repository, colon, tag)


def split(reference: str) -> tuple[str, str]:
    """The repository with its registry, and the digest, else the tag, else `latest`. Accepts any text."""
    name, _, digest = reference.partition("@")
    repository, _, tag = split_tag(name)
    return repository, digest or tag or "latest"


def without_registry(repository: str) -> str:
    """`bench/task` for `localhost:5000/bench/task`."""
    host, slash, rest = repository.partition("/")
    return rest if slash and _is_registry(host) else repository


def registry_of(reference: str) -> str:
    """The registry's host. Accepts any text."""
    return _split_registry(split(reference)[0])[0]


def login_hint(registry: str) -> str:
    """What to do about an answer of 401 or 403."""
    command = "docker login" if registry == HUB else f"docker login {registry}"
    return f"registries answer so for names that do not exist as well: check the name, or run `{command}`"


def is_valid(text: str) -> bool:
    """Is it a valid image name or an image's id?"""
    try:
        ImageName.parse(text)
    except ValueError:
        return bool(_ID.fullmatch(text))
    return True


def full_name(reference: str, *, localhost: bool = True) -> str:
    """The same spelling for `docker.io/library/x:latest`, `library/x` and `x`. With `localhost` also for `localhost/x`,
    which is Podman's name for an `x` that was built there; to Docker that is another image."""
    name = re.sub(r"^(?:docker\.io|localhost)/" if localhost else r"^docker\.io/", "", reference)
    name = name.removeprefix("library/")
    return name if "@" in name or split_tag(name)[1] else f"{name}:latest"


def _split_registry(repository: str) -> tuple[str, str]:
    host, slash, path = repository.partition("/")
    if not slash or not _is_registry(host):
        return HUB, repository
    return (HUB if host == f"index.{HUB}" else host), path


def _is_registry(host: str) -> bool:
    return "." in host or ":" in host or host == "localhost"


def _check_digest(digest: str) -> None:
    if not _DIGEST.fullmatch(digest) or (digest.startswith("sha256:") and not _SHA256.fullmatch(digest)):
        raise ValueError(f"{digest[:100]!r} is not a digest such as sha256: and 64 digits of 0-9a-f")


def _check_tag(tag: str) -> None:
    if len(tag) > TAG_LENGTH:
        raise ValueError(f"its tag has {len(tag)} characters, a tag may have at most {TAG_LENGTH}")
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is not a tag: letters, digits, `_`, `.` and `-`, the first not `.` or `-`")


def _check_path(path: str) -> None:
    if len(path) > PATH_LENGTH:
        raise ValueError(f"its repository has {len(path)} characters, it may have at most {PATH_LENGTH}")
    for component in path.split("/"):
        if _COMPONENT.fullmatch(component):
            continue
        if component != component.lower():
            raise ValueError(f"{component[:100]!r} is not a repository name: it must be lower case")
        raise ValueError(
            f"{component[:100]!r} is not part of a repository name: a-z and 0-9, separated by `.`, `_`, `__` or `-`"
        )
    if _ID.fullmatch(path):
        raise ValueError("64 digits of 0-9a-f are an image's id, not a name")
