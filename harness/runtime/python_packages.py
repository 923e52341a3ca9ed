"""The agent and its requirements, installed into a folder by this host's pip for the bundle's Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from taskgate.harness.base.errors import UsageError

PYTHON = "3.11"
# Debian bookworm's C library; every wheel for an older one will do.
GLIBC_MINOR = 36
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "ppc64le": "ppc64le", "s390x": "s390x"}


def collect(folder: Path, *, requirements: str | None, agent: str | None, architecture: str) -> None:
    """Fill `folder` with packages. Raises UsageError with pip's own words where that can't be done."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted: list[str] = []
    if requirements:
        if not Path(requirements).is_file():
            raise UsageError(f"there is no file {requirements}", field="runtime.requirements")
        wanted += ["--requirement", requirements]
    if agent:
        wanted += _agent(Path(agent), folder)
    if not wanted:
        return
    machine = MACHINES.get(architecture, architecture)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    _pip(
        "install", "--target", str(folder), "--no-compile", "--upgrade", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={PYTHON}",
        *[f"--platform={platform}" for platform in platforms], *wanted,
    )  # fmt: skip


def _agent(path: Path, folder: Path) -> list[str]:
    """A project is built into a wheel, whose own requirements count; a module or a package is copied."""
    if not path.exists():
        raise UsageError(f"there is no {path}", field="runtime.agent")
    if (path / "pyproject.toml").exists() or (path / "setup.py").exists():
        wheels = folder.parent / "wheels"
        _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(path))
        return [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    if path.is_dir():
        shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    elif path.suffix == ".py":
        shutil.copy(path, folder / path.name)
    else:
        raise UsageError(f"{path} is neither a module, nor a package, nor a project", field="runtime.agent")
    return []


def _pip(*args: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(
            f"pip can't provide the agent's requirements (status {done.returncode}): {done.stderr.strip()[-2000:]}",
            field="runtime",
        )
