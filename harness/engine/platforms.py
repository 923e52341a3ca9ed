"""Platforms as image configurations name them (`linux/amd64`, `linux/arm64/v8`), and Podman detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Some engines report the names of `uname -m`.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"}


def platform(os: str | None, architecture: str | None, variant: str | None = None) -> str:
    """`linux/arm64/v8`; empty parts are left out."""
    name = _ARCHITECTURES.get(architecture or "", architecture or "")
    return "/".join(part for part in ((os or "linux").lower(), name, variant) if part)


def same_platform(left: str, right: str) -> bool:
    """Same system and architecture; a variant (v8) counts only if both name one."""
    return all(a == b for a, b in zip(left.split("/"), right.split("/"), strict=False))


def without_variant(name: str) -> str:
    """`linux/arm64` for `linux/arm64/v8`."""
    return "/".join(name.split("/")[:2])


def architecture_of(name: str) -> str:
    """`arm64` for `linux/arm64/v8`."""
    return name.split("/")[1]


def is_podman(version: Mapping[str, Any]) -> bool:
    """Does this answer to `GET /version` come from Podman's Docker-compatible API?"""
    return any("podman" in str(part.get("Name", "")).lower() for part in version.get("Components") or ())
