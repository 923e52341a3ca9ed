"""A runtime as files: one tar for each architecture, kept in this user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from taskgate.harness.base import files

# Directly below the root, as no image has anything there: its layer is the same, byte for byte, on every image.
ROOT = "/.taskgate"


@dataclass(frozen=True, slots=True)
class Bundle:
    """`tar` (bytes: `size`) holds the files that belong under `prefix` in a container of `platform`.

    `shell` is an argv, `python` and `git` are absolute paths in the container; None where the bundle has none.
    `digest` stands for all that went in. `proven`: its programs were started in an empty root.
    """

    digest: str
    prefix: str
    platform: str
    size: int
    shell: tuple[str, ...] | None = None
    python: str | None = None
    git: str | None = None
    proven: bool = False

    @property
    def name(self) -> str:
        return f"{self.digest}-{self.platform.replace('/', '-')}"

    def program(self, name: str, exists: Callable[[str], bool]) -> str:
        """The path of a program: the bundle's, if it has that name, else the name as it is."""
        brought = f"{self.prefix}/bin/{name}"
        return brought if "/" not in name and exists(brought) else name


class Store:
    """The bundles of this user, by the settings that they were built for (`key`)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or platformdirs.user_cache_path("taskgate") / "runtimes"

    def tar(self, bundle: Bundle) -> Path:
        return self.folder / f"{bundle.name}.tar"

    def find(self, key: str) -> Bundle | None:
        """The bundle that was built for `key`, if it is whole."""
        try:
            name = (self.folder / "keys" / key).read_text()
            return self._read(self.folder / f"{name}.json")
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def all(self) -> list[Bundle]:
        bundles = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                bundles.append(self._read(path))
        return bundles

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held while the bundle for `key` is built: one process builds it, the others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{key}.lock"):
            yield

    @contextlib.contextmanager
    def temp_file(self) -> Iterator[Path]:
        """A file for a tar that is being written; removed unless it is added. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.temp_file(self.folder, ".making-") as path:
            yield path

    @contextlib.contextmanager
    def temp_dir(self) -> Iterator[Path]:
        """A folder in which a bundle is assembled. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.temp_dir(self.folder, ".bundle-") as path:
            yield path

    def add(self, key: str, bundle: Bundle, tar: Path) -> None:
        """Keep a bundle whose files are in `tar`, which is moved. Raises OSError."""
        tar.replace(self.tar(bundle))
        about = json.dumps(asdict(bundle), indent=1).encode()
        files.write(self.folder / f"{bundle.name}.json", about)
        files.write(self.folder / "keys" / key, bundle.name.encode())

    def describe(self, bundle: Bundle, text: str) -> None:
        """Note for people what the bundle holds. Raises OSError."""
        files.write(self.folder / f"{bundle.name}.txt", text.encode())

    def about(self, bundle: Bundle) -> str | None:
        """The note of `describe`; None for bundles of older versions."""
        try:
            return (self.folder / f"{bundle.name}.txt").read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def remove(self, bundle: Bundle) -> None:
        for path in [self.folder / f"{bundle.name}.json", *self.folder.glob(f"{bundle.name}.*")]:
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Bundle:
        data: dict[str, Any] = json.loads(path.read_text())
        data["shell"] = tuple(data["shell"]) if data["shell"] else None
        bundle = Bundle(**data)
        if self.tar(bundle).stat().st_size != bundle.size:
            raise ValueError(f"{self.tar(bundle)} is not whole")
        return bundle


def key(*parts: object) -> str:
    """A name for what a bundle is built from."""
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:32]


def rewrite(source: tarfile.TarFile, target: Path, *, below: str = "") -> str:
    """Copy the members below a folder of `source` into a tar of its own, names made relative; its SHA-256.

    Names that lead out, devices and hard links to what lies outside are refused with a ValueError.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        for member in source:
            name = _below(member.name, below)
            if name in (None, "."):
                continue
            assert name is not None
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise ValueError(f"{member.name!r} is neither file, folder nor link")
            if member.islnk() and (linked := _below(member.linkname, below)):
                member.linkname = linked
            member.name, member.pax_headers = name, {}
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
    return sha256(target)


def sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def _below(name: str, folder: str) -> str | None:
    clean = os.path.normpath(name.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        raise ValueError(f"{name!r} leads out of the folder")
    if not folder:
        return clean
    if clean == folder:
        return "."
    return clean.removeprefix(f"{folder}/") if clean.startswith(f"{folder}/") else None
