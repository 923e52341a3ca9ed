"""An attempt's files, and whether they are as they were when they were recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from taskgate.harness.base.out_files import PREDICTION, TRAJECTORY

# No larger JSON file is read.
JSON_BYTES = 256 << 20


def describe(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Size, and for JSON files SHA-256, of an attempt's files by name. Raises OSError."""
    return {name: _describe(folder / name, name) for name in names}


def changed(folder: Path, recorded: object) -> str | None:
    """Why the files in `folder` are not those that `describe` recorded; None where they are. Raises OSError."""
    if not isinstance(recorded, dict) or not {TRAJECTORY, PREDICTION} <= recorded.keys():
        return "its files are not recorded"
    for name, known in recorded.items():
        path = folder / name
        if "/" in name or path.is_symlink() or not path.is_file() or _describe(path, name) != known:
            return f"{name} has changed since it was recorded"
    return None


def _describe(path: Path, name: str) -> dict[str, Any]:
    size = path.stat().st_size
    if name not in (TRAJECTORY, PREDICTION) or size > JSON_BYTES:
        return {"bytes": size}
    with path.open("rb") as file:
        return {"bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
