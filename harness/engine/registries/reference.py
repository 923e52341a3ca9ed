"""An image's name in the parts that a registry's API needs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from taskgate.harness.base.errors import ImageNotFound
from taskgate.harness.engine.image_name import HUB, ImageName

HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry` is a host, with its port if the name has one; `what` is a tag or a digest."""

    registry: str
    repository: str
    what: str

    @classmethod
    def parse(cls, image: str) -> Reference:
        """Raises ImageNotFound for an invalid name."""
        try:
            name = ImageName.parse(image)
        except ValueError as error:
            raise ImageNotFound(f"{image[:300]!r} is not a valid image name: {error}") from error
        return cls(name.registry, name.repository, name.reference)


def base_url(registry: str, scheme: str | None = None) -> str:
    """The base URL of a registry's API. As with engines: plain HTTP on the loopback interface, TLS elsewhere."""
    if registry == HUB:
        return f"https://{HUB_API}"
    if scheme is None:
        scheme = "http" if is_loopback(registry) else "https"
    return f"{scheme}://{registry}"


def is_loopback(registry: str) -> bool:
    """Is it `localhost` or an address of the loopback interface? A name that only begins so is not."""
    try:
        host = urlsplit(f"//{registry}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
