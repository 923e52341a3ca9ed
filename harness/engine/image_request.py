"""A request for an image: its name, its platform, and when to pull it."""

from __future__ import annotations

from typing import NamedTuple


class ImageRequest(NamedTuple):
    """`platform` is `os/architecture[/variant]`; `pull` is `missing`, `always` or `never`."""

    image: str
    platform: str = "linux/amd64"
    pull: str = "missing"

    @property
    def key(self) -> tuple[str, str]:
        """Equal for requests that the same pull serves."""
        return self.image, self.platform
