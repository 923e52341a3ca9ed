"""From the manifest's `runtime` to a bundle: built, taken from an image, a folder or a tar; built once and kept."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from taskgate.harness.base import files
from taskgate.harness.base.errors import BundleError, ImageNotFound, PlatformUnavailable, UsageError
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.tar_stream import timeless
from taskgate.harness.runtime import builder, bundle
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task


def resolve(engine: Engine, store: Store, runtime: Runtime, platform: str, *, refresh: bool = False) -> Bundle:
    """The bundle for images of `platform`; built now if it isn't in the store, or if `refresh`.

    Raises UsageError for what the manifest has wrong, else BundleError or InfraError.
    """
    if runtime.mode == "present":
        return _present(runtime, platform)
    made_from = _key(engine, runtime, platform)
    with store.lock(made_from):
        if not refresh and (known := store.find(made_from)):
            return known
        try:
            bundle_made = _make(engine, store, made_from, runtime, platform)
            store.describe(bundle_made, _description(runtime))
            return bundle_made
        except OSError as error:
            raise BundleError(f"the runtime can't be kept in {store.folder}: {error}") from error


def _description(runtime: Runtime) -> str:
    """Where the runtime's agent is from, for people."""
    source = runtime.agent or runtime.from_image or runtime.tar or runtime.directory
    parts = [f"agent {source}" if source else "no agent"]
    return ", ".join([*parts, *([f"requirements {runtime.requirements}"] if runtime.requirements else [])])


def prepare(connect: Callable[[], Engine], tasks: Iterable[Task]) -> None:
    """Have all bundles that these tasks ask for. Raises UsageError for what the manifest has wrong, else InfraError."""
    wanted = {(task.runtime, task.platform) for task in tasks if task.runtime}
    if not wanted:
        return
    engine = connect()
    try:
        for runtime, platform in sorted(wanted, key=str):
            assert runtime is not None
            resolve(engine, Store(), runtime, platform)
    finally:
        engine.close()


def known(engine: Engine, store: Store, runtime: Runtime, platform: str) -> Bundle | None:
    """The bundle if it was built before."""
    return store.find(_key(engine, runtime, platform))


def _make(engine: Engine, store: Store, key: str, runtime: Runtime, platform: str) -> Bundle:
    if runtime.from_image:
        return _from_image(engine, store, key, runtime, platform)
    if runtime.directory or runtime.tar:
        return _from_files(store, key, runtime, platform)
    return builder.make(engine, store, key, runtime, platform)


def _present(runtime: Runtime, platform: str) -> Bundle:
    """What an image was given before. Of taskgate's own bundle it is known what is in it."""
    assert runtime.path
    own = runtime.path.startswith(f"{bundle.ROOT}/")
    return Bundle(
        digest=runtime.path.rpartition("/")[2],
        prefix=runtime.path,
        platform=platform,
        size=0,
        shell=(f"{runtime.path}/libexec/busybox", "sh") if own else None,
        python=f"{runtime.path}/bin/python3",
        git=f"{runtime.path}/bin/git" if own else None,
    )


def _key(engine: Engine, runtime: Runtime, platform: str) -> str:
    """A key for what the bundle is built from, as far as that is cheap to know."""
    if runtime.from_image:
        return bundle.key("image", _image(engine, runtime.from_image, platform), runtime.path)
    if runtime.tar:
        return bundle.key("tar", _seen(runtime.tar, "tar"), runtime.path, platform)
    if runtime.directory:
        return bundle.key("directory", _seen(runtime.directory, "directory"), runtime.path, platform)
    requirements = _seen(runtime.requirements, "requirements") if runtime.requirements else None
    agent = _seen(runtime.agent, "agent") if runtime.agent else None
    return bundle.key("bundle", builder.recipe(), builder.PACKAGES, runtime.builder, platform, requirements, agent)


def _seen(name: str, field: str) -> list[tuple[str, str, bool]]:
    """The names and contents of a file or of a folder's files."""
    path = Path(name)
    if not (files.is_file(path) or files.is_folder(path)):
        raise UsageError(f"there is no {path}", field=f"runtime.{field}")
    entries = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() or p.is_symlink())
    return [
        (
            str(file.relative_to(path)),
            str(file.readlink()) if file.is_symlink() else bundle.sha256(file),
            bool(file.lstat().st_mode & 0o100),
        )
        for file in entries
        if "__pycache__" not in file.parts and ".git" not in file.parts
    ]


def _image(engine: Engine, name: str, platform: str) -> str:
    try:
        return engine.image(ImageRequest(name, platform)).digest
    except (ImageNotFound, PlatformUnavailable) as error:
        raise UsageError(str(error), field="runtime.from_image") from error


def _from_image(engine: Engine, store: Store, key: str, runtime: Runtime, platform: str) -> Bundle:
    assert runtime.from_image and runtime.path
    image = _image(engine, runtime.from_image, platform)
    try:
        with engine.temporary_container(image, seconds=3600) as container, store.temp_file() as tar:
            with engine.read_tar(container, runtime.path) as source:
                bundle.rewrite(source, tar, below=Path(runtime.path).name)
            return _keep(
                store, key, tar, digest=bundle.key(image, runtime.path)[:16], runtime=runtime, platform=platform
            )
    except (FileNotFoundError, ValueError, tarfile.TarError) as error:
        raise UsageError(f"{runtime.path} can't be a runtime: {error}", field="runtime.path") from error


def _from_files(store: Store, key: str, runtime: Runtime, platform: str) -> Bundle:
    field = "tar" if runtime.tar else "directory"
    with store.temp_file() as tar, store.temp_file() as packed:
        try:
            if runtime.directory:
                _pack(Path(runtime.directory), packed)
            with tarfile.open(runtime.tar or packed) as source:
                digest = bundle.rewrite(source, tar)[:16]
        except (ValueError, tarfile.TarError) as error:
            raise UsageError(f"{getattr(runtime, field)}: {error}", field=f"runtime.{field}") from error
        return _keep(store, key, tar, digest=digest, runtime=runtime, platform=platform)


def _pack(folder: Path, target: Path) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=timeless)


def _keep(store: Store, key: str, tar: Path, *, digest: str, runtime: Runtime, platform: str) -> Bundle:
    prefix = runtime.path or f"{bundle.ROOT}/{digest}"
    with tarfile.open(tar) as archive:
        names = set(archive.getnames())

    def program(name: str) -> str | None:
        return f"{prefix}/bin/{name}" if f"bin/{name}" in names else None

    kept = Bundle(
        digest=digest,
        prefix=prefix,
        platform="/".join(platform.split("/")[:2]),
        size=tar.stat().st_size,
        python=program("python3"),
        git=program("git"),
    )
    store.add(key, kept, tar)
    return kept
