"""Mode `layer`: the runtime's files as one more layer of an image, through the engine's load API.

Only the new layer and a configuration are sent; the base's layers are named, and the engine finds them by their
chain of digests. A store that refuses that (containerd's) is given a build instead.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import BundleError, ImageRefused, InfraError, StartFailed
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import bundle as bundles
from taskgate.harness.runtime import dockerfile
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.runtime.injected import build_lock, existing, history_of, labels_of, tag_of

LOAD_SECONDS = 600
# What engines say of a base layer that they would have to find themselves: Docker, containerd's store, Podman.
REFUSED = re.compile(r"layer not found|no such file|lstat|unexpected EOF|layer tarfiles are missing", re.I)
UNKNOWN = "1970-01-01T00:00:00Z"


def append(engine: Engine, bundle: Bundle, store: Store, base: str, tag: str | None = None) -> str:
    """The id of the image `base` with the bundle on top, built unless it exists. Raises BundleError, InfraError."""
    tag = tag or tag_of(bundle, base)
    if known := existing(engine, tag, bundle, base):
        return known
    about = engine.inspect(base)
    if about is None:
        raise InfraError(f"the engine does not find the image {base} any more")
    past = history_of(engine, base)
    with build_lock(store, tag):
        if known := existing(engine, tag, bundle, base):
            return known
        refused = None
        with layer_file(engine, bundle, store, base) as (layer, digest):
            try:
                _load(engine, config(about, past, digest, bundle), about["RootFS"]["Layers"], layer, tag)
            except ImageRefused as error:
                refused = error
    if refused:
        if not REFUSED.search(str(refused)):
            raise BundleError(f"{refused}{dockerfile.advice(str(refused))}") from refused
        return dockerfile.build(engine, bundle, store, base, tag)
    if known := existing(engine, tag, bundle, base):
        return known
    raise BundleError(f"the engine took the layer for {base}, but has no image {tag}")


@contextmanager
def layer_file(engine: Engine, bundle: Bundle, store: Store, base: str) -> Iterator[tuple[Path, str]]:
    """The bundle as a layer's tar, and its SHA-256. Of taskgate's own it is the same on every image, and kept."""
    if Path(bundle.prefix).parent != Path(bundles.ROOT):
        with store.temp_file() as path:
            write_layer(store.tar(bundle), path, bundle.prefix, parents(engine, base, bundle.prefix))
            yield path, bundles.sha256(path)
        return
    kept = store.folder / f"{bundle.name}.layer.tar"
    digest = kept.with_suffix(".sha256")
    with store.lock(f"lay-{bundle.name}"):
        if not digest.exists() or not kept.exists():
            top = tarfile.TarInfo(bundles.ROOT.lstrip("/"))
            top.type, top.mode = tarfile.DIRTYPE, 0o755
            with store.temp_file() as path:
                write_layer(store.tar(bundle), path, bundle.prefix, [top])
                path.replace(kept)
            files.write(digest, bundles.sha256(kept).encode())
    yield kept, digest.read_text()


def parents(engine: Engine, base: str, prefix: str) -> list[tarfile.TarInfo]:
    """The folders above the prefix as the image has them, so that the new layer changes nothing of them."""
    members = []
    with engine.temporary_container(base, seconds=LOAD_SECONDS) as container:
        for path in reversed(list(Path(prefix).parents)[:-1]):
            member = _stat(engine, container, path)
            if member is None:
                member = tarfile.TarInfo()
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif not member.isdir():
                reason = f"the runtime can't be put into the image: {path} is not a folder there"
                raise StartFailed(reason, cause="image")
            member.name = str(path).lstrip("/")
            members.append(member)
    return members


def _stat(engine: Engine, container: str, path: Path) -> tarfile.TarInfo | None:
    about = engine.stat(container, str(path))
    if about is None:
        return None
    if about.get("linkTarget"):
        member = tarfile.TarInfo()
        member.type = tarfile.SYMTYPE
        return member
    with engine.read_tar(container, str(path)) as archive:
        return archive.next()


def write_layer(source: Path, target: Path, prefix: str, above: list[tarfile.TarInfo]) -> None:
    """A bundle's tar as a layer: its names below the prefix."""
    below = prefix.lstrip("/")
    with tarfile.open(source) as read, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        top = tarfile.TarInfo(below)
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        for member in [*above, top]:
            out.addfile(member)
        for member in read:
            member.name = f"{below}/{member.name}"
            if member.islnk():
                member.linkname = f"{below}/{member.linkname}"
            out.addfile(member, read.extractfile(member) if member.isreg() else None)


def config(about: dict[str, Any], past: list[dict[str, Any]], digest: str, bundle: Bundle) -> dict[str, Any]:
    """The new image's configuration: the base's, with one more layer and one more line of history."""
    kept = about.get("Config") or {}
    labels = {**(kept.get("Labels") or {}), **labels_of(bundle, str(about["Id"]))}
    document: dict[str, Any] = {
        "architecture": about["Architecture"],
        "os": about.get("Os") or "linux",
        "created": about.get("Created"),
        "author": about.get("Author") or None,
        "variant": about.get("Variant") or None,
        "os.version": about.get("OsVersion") or None,
        "config": {**kept, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [*about["RootFS"]["Layers"], f"sha256:{digest}"]},
        "history": [
            *history(past, len(about["RootFS"]["Layers"])),
            {
                "created": about.get("Created") or UNKNOWN,
                "created_by": f"taskgate: runtime {bundle.digest} in {bundle.prefix}",
            },
        ],
    }
    return {name: value for name, value in document.items() if value is not None}


def history(past: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """The history API's lines (newest first) as a configuration has them. The API does not say which added a layer.

    Lines with a size did; if that is not enough, so did the first of those that could have.
    """
    lines = list(reversed(past))
    full = [number for number, line in enumerate(lines) if line.get("Size")]
    maybe = [n for n, line in enumerate(lines) if n not in full and not _idle(line.get("CreatedBy") or "")]
    full = sorted([*full, *maybe[: max(0, layers - len(full))]])
    if len(full) != layers:
        # An engine refuses a history that names more layers than there are.
        full = full[:layers]
    entries = []
    for number, line in enumerate(lines):
        entry: dict[str, Any] = {"created_by": line.get("CreatedBy") or ""}
        if (line.get("Created") or 0) > 0:
            entry["created"] = datetime.fromtimestamp(line["Created"]).astimezone().isoformat()
        if line.get("Comment"):
            entry["comment"] = line["Comment"]
        if number not in full:
            entry["empty_layer"] = True
        entries.append(entry)
    return entries


def _idle(command: str) -> bool:
    """Does a Dockerfile's instruction only change the configuration?"""
    return bool(re.search(r"#\(nop\)\s+(?!COPY|ADD|WORKDIR)|^(?:CMD|ENTRYPOINT|ENV|LABEL|USER|EXPOSE|ARG)\b", command))


def _load(engine: Engine, about: dict[str, Any], base_layers: list[str], layer: Path, tag: str) -> None:
    data = json.dumps(about).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    names = [f"base-{number}/layer.tar" for number in range(len(base_layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": [*names, "runtime/layer.tar"]}]).encode()
    engine.load_image(_archive({name: data, "manifest.json": manifest}, layer), tag, seconds=LOAD_SECONDS)


def _archive(small: dict[str, bytes], layer: Path) -> Iterator[bytes]:
    """A tar of these files and the layer, in pieces: nothing is copied first."""
    for name, data in small.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        yield member.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    member = tarfile.TarInfo("runtime/layer.tar")
    member.size = layer.stat().st_size
    yield member.tobuf(tarfile.GNU_FORMAT)
    with layer.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
    yield bytes(-member.size % tarfile.BLOCKSIZE) + bytes(2 * tarfile.BLOCKSIZE)
