"""How each member of the SWE-bench family names its images, and where and in what state an agent works in them.

Sources, with the version or commit that was read:

- SWE-bench: the package `swebench` 5.0.2, image_builder/ (image_spec.py, constants) and harness/run_evaluation.py
- SWE-bench Pro: scaleapi/SWE-bench_Pro-os 0875a8a, swe_bench_pro_eval.py; its rows' `dockerhub_tag`
- SWE-Gym: the README and the images of `xingyaoww`; SWE-rebench: the rows of nebius/SWE-rebench
- R2E-Gym: the rows of R2E-Gym/R2E-Gym-Subset, src/r2egym/agenthub/runtime/docker.py
- SWE-smith: the package `swesmith` 0.0.9, profiles/base.py and profiles/javascript.py
- multi-swe-bench: the package `multi-swe-bench` 1.1.2, harness/image.py and harness/repos/python
- SWE-bench-Live: microsoft/SWE-bench-Live 0327714, evaluation/evaluation.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskgate.harness.tasks.importers.importer import Source

IMAGES = ("image", "docker_image", "image_name")
MULTI_KEYS = {"org", "repo", "number"}
R2E_KEYS = {"repo_name", "commit_hash", "docker_image"}
TESTBED = "/testbed"
LINUX, WINDOWS = "linux/amd64", "windows/amd64"
LIVE, SMITH, GYM, REBENCH, PRO = "starryzhang", "swebench", "xingyaoww", "swerebench", "jefzda"
WINDOWS_IMAGE = "sweb.eval.win"
# SWE-Gym's rows have the columns of SWE-bench's: it is recognised by its repositories, none of which is SWE-bench's.
GYM_REPOSITORIES = frozenset(
    "Project-MONAI/MONAI bokeh/bokeh conan-io/conan dask/dask facebookresearch/hydra getmoto/moto iterative/dvc"
    " modin-project/modin pandas-dev/pandas pydantic/pydantic python/mypy".lower().split()
)
# Those whose images are SWEImageDefault, made from images of SWE-bench's kind.
MULTI_PYTHON = frozenset(
    [
        "astropy/astropy",
        "django/django",
        "matplotlib/matplotlib",
        "mwaskom/seaborn",
        "networkx/networkx",
        "pallets/flask",
        "plotly/plotly.py",
        "psf/requests",
        "pydata/xarray",
        "pylint-dev/pylint",
        "pytest-dev/pytest",
        "python-pillow/pillow",
        "qiskit/qiskit",
        "scikit-learn/scikit-learn",
        "sphinx-doc/sphinx",
        "sympy/sympy",
        "vega/altair",
    ]
)
# Of the images that were made later, by agents, those whose rows have neither `tag` nor `number_interval`; and where
# their repositories are, if not in /home.
MULTI_LATER = {"Qiskit/qiskit": None, "openmm/openmm": None, "gwastro/pycbc": "/opt/pycbc/src/pycbc"}
Fields = dict[str, Any]


class Row:
    """A row of a dataset, with the errors that name its line."""

    def __init__(self, source: Source, content: dict[str, Any], line: int) -> None:
        self.source, self.content, self.line = source, content, line

    def text(self, name: str) -> str:
        """A text that must be there. Raises UsageError."""
        value = self.content.get(name)
        if not isinstance(value, str) or not value:
            raise self.fail("is missing" if value is None else "must be text", name)
        return value

    def number(self, name: str) -> int:
        """A whole number that must be there. Raises UsageError."""
        value = self.content.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail("is missing" if value is None else "must be a whole number", name)
        return value

    def image(self, published: str) -> str:
        """The image that the row names, else the `published` one. Raises UsageError."""
        image = next((self.content[name] for name in IMAGES if self.content.get(name)), published)
        if not isinstance(image, str):
            raise self.fail("must be text", "image")
        return image

    def fail(self, problem: str, field: str) -> Exception:
        return self.source.fail(problem, line=self.line, field=field)


def family_of(row: dict[str, Any]) -> str:
    """By the fields that only this family's rows have."""
    repository = str(row.get("repo", "")).lower()
    if row.keys() >= MULTI_KEYS:
        return "multi"
    if row.keys() >= R2E_KEYS:
        return "r2e"
    if repository.startswith("swesmith/") or "swesmith" in str(row.get("image_name", "")):
        return "smith"
    if "dockerhub_tag" in row:
        return "pro"
    if "install_config" in row:
        return "rebench"
    if "test_cmds" in row or ("log_parser" in row and "pull_number" in row):
        return "live"
    return "gym" if repository in GYM_REPOSITORIES else "swebench"


def id_of(row: Row, family: str) -> str:
    """The task's id. Raises UsageError."""
    if "instance_id" in row.content:
        return row.text("instance_id")
    if family == "multi":
        return f"{row.text('org')}__{row.text('repo')}-{row.number('number')}"
    if family == "r2e":
        return f"{row.text('repo_name')}-{row.text('commit_hash')}"
    return row.text("instance_id")


def swebench(row: Row) -> Fields:
    return _of_harness(row, _evaluated("swebench", row))


def gym(row: Row) -> Fields:
    return _of_harness(row, _evaluated(GYM, row, separator="_s_"))


def rebench(row: Row) -> Fields:
    return _of_harness(row, _evaluated(REBENCH, row))


def live(row: Row) -> Fields:
    """The Windows rows are in a dataset of their own, which need not say so in each row."""
    windows = (
        row.source.options.get("platform") == "windows"
        or str(row.content.get("platform", "")).lower().startswith("windows")
        or any(WINDOWS_IMAGE in str(row.content.get(name)) for name in IMAGES)
    )
    image = row.image(_evaluated(LIVE, row, system="win" if windows else "x86_64"))
    if windows:
        return {"image": image, "repo_path": None, "platform": WINDOWS}
    return {**_in(TESTBED), "image": image, "base_commit": row.content.get("base_commit")}


def pro(row: Row) -> Fields:
    tag = row.content.get("dockerhub_tag")
    if tag is None:
        owner, _, name = row.text("repo").lower().partition("/")
        tag = f"{owner}.{name}-{row.text('instance_id').replace('instance_', '')}"[:128]
    if not isinstance(tag, str):
        raise row.fail("must be text", "dockerhub_tag")
    image = row.image(f"{row.source.options.get('org', PRO)}/sweap-images:{tag}")
    return {**_in("/app"), "image": image, "base_commit": row.content.get("base_commit")}


def r2e(row: Row) -> Fields:
    return {**_in(TESTBED), "image": row.text("docker_image")}


def smith(row: Row) -> Fields:
    """An id is OWNER__REPO.COMMIT.BUG: an image for each OWNER__REPO.COMMIT, with a branch for each bug."""
    task_id = row.text("instance_id")
    owner, _, repository = task_id.rpartition(".")[0].partition("__")
    # No part of an image's name may end with a dash.
    owner = owner.replace("-", "_") if owner.endswith("-") else owner
    published = f"{SMITH}/swesmith.x86_64.{owner}_1776_{repository}:latest".lower()
    return {
        **_in(TESTBED),
        "image": row.image(published),
        "checkout": task_id,
        "user": "root",
        "limits": {"memory": "10g"},
    }


def multi(row: Row) -> Fields:
    organisation, repository = row.text("org"), row.text("repo")
    base = row.content.get("base")
    commit = base.get("sha") if isinstance(base, dict) else row.content.get("base_commit")
    name = f"{organisation}/{repository}"
    later = bool(row.content.get("number_interval") or row.content.get("tag")) or name in MULTI_LATER
    namespace = "envagent" if later else "mswebench"
    image = row.image(f"{namespace}/{organisation}_m_{repository}:pr-{row.number('number')}".lower())
    if name in MULTI_PYTHON:
        return {**_in(TESTBED), "image": image, "base_commit": commit, "setup_commits": 1}
    return {**_in(MULTI_LATER.get(name) or f"/home/{repository}"), "image": image, "base_commit": commit}


FAMILIES: dict[str, Callable[[Row], Fields]] = {
    "swebench": swebench,
    "live": live,
    "smith": smith,
    "multi": multi,
    "pro": pro,
    "gym": gym,
    "r2e": r2e,
    "rebench": rebench,
}

# Whose harness proves a family's tasks.
HARNESSES = {
    "swebench": "swebench",
    "gym": "swebench",
    "rebench": "swebench",
    "smith": "swesmith",
    "multi": "multi-swe-bench",
}


def _evaluated(namespace: str, row: Row, *, system: str = "x86_64", separator: str = "_1776_") -> str:
    """A registry allows no two underscores in a row."""
    return f"{namespace}/sweb.eval.{system}.{row.text('instance_id')}:latest".lower().replace("__", separator)


def _of_harness(row: Row, published: str) -> Fields:
    """Images that SWE-bench's own harness builds: as root, with a commit of its own on top of the base."""
    return {
        **_in(TESTBED),
        "image": row.image(published),
        "base_commit": row.content.get("base_commit"),
        "setup_commits": 1,
        "user": "root",
    }


def _in(path: str) -> Fields:
    return {"repo_path": path, "workdir": path, "platform": LINUX}
