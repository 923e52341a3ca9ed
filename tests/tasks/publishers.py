"""What the publishers' own packages say of their tasks: each is asked in an environment of its own.

The environments are kept in .cache/conformance, since some take minutes to install.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.conftest import CLONE

CACHE = CLONE / ".cache/conformance"

SWEBENCH = """
import json, sys
from swebench.image_builder.constants import CONTAINER_USER, CONTAINER_WORKDIR
from swebench.image_builder.image_spec import ImageSpec
specs = {name: ImageSpec(name, "FROM x", "swebench") for name in json.load(sys.stdin)}
print(json.dumps({name: [spec.name, spec.platform, CONTAINER_WORKDIR, CONTAINER_USER] for name, spec in specs.items()}))
"""
SWESMITH = """
import json
from swebench.harness.constants import DOCKER_USER, DOCKER_WORKDIR
from swesmith.profiles import registry
found = {profile.repo_name: [profile.image_name, DOCKER_WORKDIR, DOCKER_USER] for profile in registry.values()}
print(json.dumps(found))
"""
PROGRAMBENCH = """
import inspect, json
from programbench.constants import TASKS_DIR, WORKSPACE_DIR, image_name_from_instance_id
from programbench.eval.eval import Evaluator
tag = inspect.signature(Evaluator.__init__).parameters["image_tag"].default
names = [folder.name for folder in TASKS_DIR.iterdir() if (folder / "task.yaml").exists()]
print(json.dumps({name: [f"{image_name_from_instance_id(name)}:{tag}", WORKSPACE_DIR] for name in names}))
"""
MULTI = """
import json, re
from types import SimpleNamespace
import multi_swe_bench.harness.repos
from multi_swe_bench.harness.image import Config, SWEImageDefault
from multi_swe_bench.harness.instance import Instance
found = {}
for name, kind in Instance._registry.items():
    organisation, _, repository = name.partition("/")
    base = SimpleNamespace(sha="abcd1234", ref="main", label="")
    pr = SimpleNamespace(
        org=organisation, repo=repository, number=4321, base=base, test_patch="", fix_patch="",
        tag="", number_interval="", lang="", id=f"{name}:pr-4321",
    )
    try:
        image = kind(pr, Config(need_clone=True, global_env=None, clear_env=True)).dependency()
        scripts = {file.name: file.content for file in image.files()}
        folder = re.search(r"^ *cd +(/[^ ;&|\\n]+)", scripts.get("fix-run.sh", ""), re.M)
        found[name] = [image.image_full_name(), folder and folder[1], isinstance(image, SWEImageDefault)]
    except Exception:
        continue
print(json.dumps(found))
"""
PACKAGES = {
    "swebench": (("swebench==5.0.2",), SWEBENCH),
    # It imports what swebench 5 no longer has.
    "swesmith": (("swesmith==0.0.9", "swebench<5"), SWESMITH),
    "programbench": (("programbench==1.2.5",), PROGRAMBENCH),
    "multi": (("multi-swe-bench==1.1.2",), MULTI),
}


def ask(family: str, given: Any = None) -> Any:
    """The answer of a family's package. Raises CalledProcessError where it can't be installed or asked."""
    requirements, question = PACKAGES[family]
    folder = CACHE / requirements[0].replace("==", "-")
    python = folder / "bin/python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        subprocess.run(command, check=True, timeout=1200)
        (folder / "installed").touch()
    done = subprocess.run(
        [python, "-c", question], input=json.dumps(given), capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
