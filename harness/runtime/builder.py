"""Builds taskgate's own bundle, in a container of a Debian image: see build.sh and assemble.py, which run there."""

from __future__ import annotations

import shutil
import tarfile
from importlib import resources
from pathlib import Path

from taskgate.harness.base.errors import BundleError, ImageNotFound, PlatformUnavailable, UsageError
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.runtime import bundle, python_packages, self_test
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.tasks.runtime_spec import Runtime

# Debian's names of the packages: Python, git, a shell of one static file, certificates, terminal descriptions.
PACKAGES = (
    f"python{python_packages.PYTHON}",
    "git",
    "busybox-static",
    "ca-certificates",
    "ncurses-base",
    "libstdc++6",
    "libgcc-s1",
)
RECIPE = ("build.sh", "assemble.py")
DEBIAN = {"386": "i386", "ppc64le": "ppc64el"}
BUILD_SECONDS = 1800
OUTPUT = 4000


def recipe() -> list[str]:
    """The files that decide how a bundle is built."""
    return [resources.files("taskgate.harness.runtime").joinpath(name).read_text("utf-8") for name in RECIPE]


def make(engine: Engine, store: Store, key: str, runtime: Runtime, platform: str) -> Bundle:
    """Build it, prove it, keep it in the store. Raises UsageError, BundleError or InfraError."""
    architecture = platform.split("/")[1]
    with store.temp_dir() as folder, store.temp_file() as tar:
        python_packages.collect(
            folder / "site", requirements=runtime.requirements, agent=runtime.agent, architecture=architecture
        )
        digest = _build(engine, runtime.builder, architecture, folder, tar)
        prefix = f"{bundle.ROOT}/{digest}"
        built = Bundle(
            digest=digest,
            prefix=prefix,
            platform=f"linux/{architecture}",
            size=tar.stat().st_size,
            shell=(f"{prefix}/libexec/busybox", "sh"),
            python=f"{prefix}/bin/python3",
            git=f"{prefix}/bin/git",
            proven=True,
        )
        # Kept only once it is proven not to depend on the image.
        self_test.prove(engine, built, tar)
        store.add(key, built, tar)
    return built


def _build(engine: Engine, builder: str, architecture: str, folder: Path, tar: Path) -> str:
    try:
        image = engine.image(ImageRequest(builder, engine.platform))
    except (ImageNotFound, PlatformUnavailable) as error:
        raise UsageError(f"{builder}: {error}", field="runtime.builder") from error
    argv = ["/bin/sh", "/work/build.sh", DEBIAN.get(architecture, architecture), *PACKAGES]
    with engine.temporary_container(image.digest, argv, seconds=BUILD_SECONDS, user="0") as container:
        with _inputs(folder).open("rb") as file:
            engine.put_tar(container, "/", file)
        status, output = engine.run_to_end(
            container, seconds=BUILD_SECONDS, last_lines=50, doing="building the runtime"
        )
        if status:
            raise BundleError(f"building the runtime in {builder} failed with status {status}: {output[-OUTPUT:]}")
        fetch(engine, container, "/work/bundle.tar", tar)
        fetch(engine, container, "/work/digest", folder / "digest")
    digest = (folder / "digest").read_text().strip()
    if len(digest) != 16 or not all(c in "0123456789abcdef" for c in digest):
        raise BundleError(f"the builder returned {digest[:80]!r} as the digest")
    return digest


def _inputs(folder: Path) -> Path:
    path = folder / "inputs.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "site", "work/site")
        for name in RECIPE:
            with resources.as_file(resources.files("taskgate.harness.runtime").joinpath(name)) as file:
                tar.add(file, f"work/{name}")
    return path


def fetch(engine: Engine, container: str, path: str, target: Path) -> None:
    """A file of a container, whatever its size, into a file here. Raises BundleError, InfraError."""
    try:
        with engine.read_tar(container, path) as archive:
            member = archive.next()
            source = archive.extractfile(member) if member else None
            if source is None:
                raise BundleError(f"{path} is not a file")
            with target.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise BundleError(f"{path} did not arrive whole: {error}") from error
