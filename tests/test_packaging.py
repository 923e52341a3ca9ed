"""What is shipped: a wheel that works anywhere, with nothing of ours at the top of site-packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CLONE

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"


def _copy(target: Path) -> Path:
    """What git tracks or would add, as a clone or a release has it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CLONE, capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.decode().split("\0"):
        if name and (CLONE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((CLONE / name).read_bytes())
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git tracks, as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = _copy(folder / "source")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--disable-pip-version-check",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def _environment(home: Path) -> tuple[Path, Path]:
    """A virtual environment with everything that is installed here but taskgate: its Python and its site-packages."""
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    (here,) = {Path(path) for path in sys.path if path.endswith("site-packages")}
    for entry in here.iterdir():
        if "taskgate" not in entry.name and not (site / entry.name).exists() and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    return home / "bin/python", site


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "PYTHONPATH", "GITHUB_"))}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_nothing_of_ours_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"taskgate"}
    assert {
        "taskgate/harness/tasks/manifest.schema.json", "taskgate/harness/py.typed", "taskgate/checks/py.typed",
        "taskgate/reports/py.typed", "taskgate/reports/report.css", "taskgate/reports/report.js",
        "taskgate/reports/templates/details.html",
        "taskgate/harness/plugin/suite/test_taskgate.py",
    } <= set(names)  # fmt: skip
    assert not [name for name in names if "tests/" in name or "examples/" in name]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
@pytest.mark.parametrize("form", ["=", " "], ids=["equals", "space"])
def test_the_installed_wheel(wheel: Path, sound: str, tmp_path: Path, workers: tuple[str, ...], form: str) -> None:
    """In an environment of its own, whose dependencies are this one's; in a folder far from the clone."""
    python, site = _environment(tmp_path / "env")
    zipfile.ZipFile(wheel).extractall(site)
    work = tmp_path / "work folder"
    work.mkdir()
    (work / "m.yaml").write_text(f"{HEAD}- {{id: one, image: '{sound}'}}\n")
    images = ["--images=m.yaml"] if form == "=" else ["--images", "m.yaml"]
    # An installed plugin is found by its entry point, which a wheel that is only unpacked has as well.
    done = _run([str(python), "-m", "pytest", *images, *workers], work)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    assert (work / "results/preflight/verdicts.json").exists()


@pytest.mark.parametrize(
    "args",
    [["--images=m.yaml"], ["--images", "m.yaml"], ["--images=m.yaml", "-n", "2"]],
    ids=["equals", "space", "xdist"],
)
def test_a_clone_without_an_install(sound: str, tmp_path: Path, args: list[str]) -> None:
    """In an environment that has the dependencies, and no taskgate."""
    python, _ = _environment(tmp_path / "env")
    assert _run([str(python), "-c", "import taskgate"], tmp_path).returncode == 1
    clone = tmp_path / "clone"
    clone.mkdir()
    subprocess.run(["git", "init", "-q", clone], check=True)
    _copy(clone)
    (clone / "m.yaml").write_text(f"{HEAD}- {{id: one, image: '{sound}'}}\n- {{id: two, image: '{sound}'}}\n")
    done = _run([str(python), "-m", "pytest", *args], clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 tasks on 1 image: 2 healthy" in done.stdout and (clone / "results/preflight/verdicts.json").exists()


def test_an_editable_install(sound: str, tmp_path: Path) -> None:
    """Used from elsewhere, and within the clone itself."""
    python, _ = _environment(tmp_path / "env")
    clone = tmp_path / "clone"
    _copy(clone)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*install, "--disable-pip-version-check", "-e", str(clone)], check=True, capture_output=True)
    work = tmp_path / "work"
    work.mkdir()
    for folder in (work, clone):
        (folder / "m.yaml").write_text(f"{HEAD}- {{id: one, image: '{sound}'}}\n")
        done = _run([str(python), "-m", "pytest", "--images=m.yaml"], folder)
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_what_it_needs_is_declared() -> None:
    """The dependencies are those that the code imports, no more and no less."""
    declared = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!\[ ]", name)[0] for name in declared}
    imported: set[str] = set()
    for file in [*CLONE.glob("harness/**/*.py"), *CLONE.glob("checks/*.py"), *CLONE.glob("reports/*.py")]:
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(), re.M))
    extras = {"swebench", "multi_swe_bench", "swesmith", "pyarrow", "distributed", "dask", "inspect_ai", "anyio"}
    # urllib3 comes with requests and docker, the other two with pydantic.
    brought = {"urllib3", "pydantic_core", "typing_extensions"}
    third = imported - set(sys.stdlib_module_names) - {"taskgate"} - extras - brought
    named = {"yaml": "pyyaml"}
    # Plugins of pytest are used through it.
    assert {named.get(name, name) for name in third} | {"pytest-html", "pytest-xdist"} == names
