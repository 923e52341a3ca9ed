"""The importers beside the publishers' own code: image, platform, directory, user of real tasks.

published.json holds what the packages answered, by version; with --long they are asked again. Families without a
package that can be asked here are compared with values written down from their sources, named with version and file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.tasks import task_set
from taskgate.harness.tasks.task import Task
from tests.tasks import publishers

PUBLISHED: dict[str, dict[str, list[Any]]] = json.loads((Path(__file__).parent / "published.json").read_text())


def _tasks(folder: Path, rows: list[dict[str, Any]], options: str = "") -> dict[str, Task]:
    (folder / "rows.json").write_text(json.dumps(rows))
    return {task.id: task for task in task_set.load(f"{folder / 'rows.json'}{options}")}


def _image(name: str) -> str:
    """Engines take no tag for `latest`."""
    return name if ":" in name else f"{name}:latest"


def _swebench(folder: Path, answers: dict[str, list[Any]]) -> None:
    tasks = _tasks(folder, [{"instance_id": name, "repo": "a/b", "base_commit": "abcd"} for name in answers])
    assert {task.id: [task.image, task.platform, task.workdir, task.user] for task in tasks.values()} == answers and {
        task.setup_commits for task in tasks.values()
    } == {1}


def _swesmith(folder: Path, answers: dict[str, list[Any]]) -> None:
    rows = [{"instance_id": f"{name}.func__x1", "repo": f"swesmith/{name}"} for name in answers]
    for task in _tasks(folder, rows).values():
        image, workdir, user = answers[task.id.rpartition(".")[0]]
        assert (task.image, task.workdir, task.user) == (_image(image), workdir, user)
        # profiles/base.py: get_container
        assert (task.checkout, task.limits.memory, task.platform) == (task.id, 10 << 30, "linux/amd64")


def _programbench(folder: Path, answers: dict[str, list[Any]]) -> None:
    for name in answers:
        (folder / "tasks" / name).mkdir(parents=True)
        (folder / "tasks" / name / "task.yaml").write_text("repository: a/b\ncommit: abcd\n")
    tasks = {task.id: task for task in task_set.load(str(folder / "tasks"))}
    for name, (image, workdir) in answers.items():
        if not name.startswith("testorg__"):
            task = tasks[name]
            assert (task.image, task.workdir, task.init, task.network) == (image, workdir, True, "none")


def _multi(folder: Path, answers: dict[str, list[Any]]) -> None:
    rows = {}
    for name in answers:
        organisation, _, called = name.partition("/")
        rows[name] = {"org": organisation, "repo": called, "number": 4321, "instance_id": name.replace("/", "__")}
        if name not in ("Qiskit/qiskit",) and answers[name][0].startswith("envagent/"):
            # The registered name is the repository's with its tag or interval.
            rows[name]["tag"] = "x"
    tasks = _tasks(folder, list(rows.values()))
    for name, (image, workdir, python) in answers.items():
        task = tasks[name.replace("/", "__")]
        assert task.image == image
        assert task.workdir == ("/testbed" if python else workdir or task.workdir), name


COMPARE = {"swebench": _swebench, "swesmith": _swesmith, "programbench": _programbench, "multi": _multi}


@pytest.mark.parametrize("family", COMPARE)
def test_what_was_published(family: str, tmp_path: Path) -> None:
    assert len(PUBLISHED[family]) >= 20
    COMPARE[family](tmp_path, PUBLISHED[family])


@pytest.mark.long
@pytest.mark.parametrize("family", COMPARE)
def test_what_the_package_says_today(family: str, tmp_path: Path) -> None:
    given = list(PUBLISHED[family]) if family == "swebench" else None
    answers = publishers.ask(family, given)
    known = PUBLISHED[family]
    assert {name: answers[name] for name in known} == known
    COMPARE[family](tmp_path, answers)


def test_pro(tmp_path: Path) -> None:
    """scaleapi/SWE-bench_Pro-os 0875a8a, swe_bench_pro_eval.py: create_entryscript, create_dockerhub_tag."""
    tag = "nodebb.nodebb-NodeBB__NodeBB-7b8bffd763e2155cf88f3ebc258fa68ebe18188d-vf2cf3cbd463b7ad942381f1c6d0"
    row = {"instance_id": "instance_NodeBB__NodeBB-7b8b", "repo": "NodeBB/NodeBB", "base_commit": "abcd"}
    task = _tasks(tmp_path, [{**row, "dockerhub_tag": tag}])["instance_NodeBB__NodeBB-7b8b"]
    assert (task.image, task.repo_path, task.workdir) == (f"jefzda/sweap-images:{tag}", "/app", "/app")
    (task,) = _tasks(tmp_path, [row], "?family=pro&org=mine").values()
    assert task.image == "mine/sweap-images:nodebb.nodebb-NodeBB__NodeBB-7b8b"


@pytest.mark.parametrize(
    ("repository", "image"),
    [
        ("getmoto/moto", "xingyaoww/sweb.eval.x86_64.getmoto_s_moto-1:latest"),
        ("Project-MONAI/MONAI", "xingyaoww/sweb.eval.x86_64.project-monai_s_monai-1:latest"),
        ("pandas-dev/pandas", "xingyaoww/sweb.eval.x86_64.pandas-dev_s_pandas-1:latest"),
        ("django/django", "swebench/sweb.eval.x86_64.django_1776_django-1:latest"),
    ],
)
def test_gym(tmp_path: Path, repository: str, image: str) -> None:
    row = {"instance_id": repository.replace("/", "__") + "-1", "repo": repository, "base_commit": "abcd"}
    (task,) = _tasks(tmp_path, [row]).values()
    assert (task.image, task.workdir, task.base_commit) == (image, "/testbed", "abcd")


def test_rebench(tmp_path: Path) -> None:
    """nebius/SWE-rebench: rows have install_config, and since the leaderboard's an image_name."""
    row = {"instance_id": "tox-dev__tox-3846", "repo": "tox-dev/tox", "base_commit": "abcd", "install_config": {}}
    (task,) = _tasks(tmp_path, [row]).values()
    assert task.image == "swerebench/sweb.eval.x86_64.tox-dev_1776_tox-3846:latest" and task.workdir == "/testbed"


def test_r2e(tmp_path: Path) -> None:
    """R2E-Gym, src/r2egym/agenthub/runtime/docker.py: repo_path /testbed; rows have no instance_id."""
    image = "namanjain12/aiohttp_final:f0d74880deec8fcd982bce639c93c5e130d41198"
    row = {"repo_name": "aiohttp", "docker_image": image, "commit_hash": "f0d74880deec8fcd982bce639c93c5e130d41198"}
    (task,) = _tasks(tmp_path, [row]).values()
    assert (task.image, task.repo_path, task.workdir) == (image, "/testbed", "/testbed")
    assert task.id == "aiohttp-f0d74880deec8fcd982bce639c93c5e130d41198"


@pytest.mark.parametrize(
    ("more", "options", "image", "platform"),
    [
        ({}, "", "starryzhang/sweb.eval.x86_64.a_1776_b-1:latest", "linux/amd64"),
        ({"platform": "windows"}, "", "starryzhang/sweb.eval.win.a_1776_b-1:latest", "windows/amd64"),
        ({}, "?platform=windows", "starryzhang/sweb.eval.win.a_1776_b-1:latest", "windows/amd64"),
        ({"docker_image": "starryzhang/sweb.eval.win.a:b"}, "", "starryzhang/sweb.eval.win.a:b", "windows/amd64"),
    ],
)
def test_live(tmp_path: Path, more: dict[str, Any], options: str, image: str, platform: str) -> None:
    """microsoft/SWE-bench-Live 0327714, evaluation/evaluation.py: get_default_image_name."""
    row = {"instance_id": "a__b-1", "repo": "a/b", "base_commit": "abcd", "test_cmds": ["x"], **more}
    (task,) = _tasks(tmp_path, [row], options).values()
    assert (task.image, task.platform) == (image, platform)


def test_multi_needs_a_number(tmp_path: Path) -> None:
    from taskgate.harness.base.errors import UsageError

    with pytest.raises(UsageError, match="number: is missing"):
        _tasks(tmp_path, [{"org": "a", "repo": "b", "number": None, "instance_id": "a__b-1"}])


def test_a_task_repository(tmp_path: Path) -> None:
    """swebench 5.0.2, task/repo.py: a task belongs to a published split and to a dataset."""
    (tmp_path / "sweb.yaml").write_text("datasets: [org/Full, org/Lite]\nsplits: [test, dev]\n")

    def write(name: str, split: str, datasets: str) -> None:
        (tmp_path / "tasks" / name).mkdir(parents=True)
        image = f"swebench/sweb.eval.x86_64.{name.replace('__', '_1776_')}:latest"
        (tmp_path / "tasks" / name / "task.yaml").write_text(
            f"instance_id: {name}\nrepo: a/b\nbase_commit: abcd1234\nversion: '1.0'\nsplit: {split}\nimage: {image}\n"
            f"log_parser: x\neval_type: y\ndatasets: {datasets}\n"
        )

    write("a__b-1", "test", "[org/Full, org/Lite]")
    write("a__b-2", "dev", "[org/Full]")
    write("a__b-3", "deprecated", "[org/Full]")
    write("a__b-4", "test", "[org/Other]")

    def ids(options: str) -> list[str]:
        return [task.id for task in task_set.load(f"{tmp_path}{options}")]

    assert (
        ids("") == ["a__b-1", "a__b-2"] and ids("?dataset=org/Lite") == ["a__b-1"] and ids("?split=dev") == ["a__b-2"]
    )
    task = task_set.load(str(tmp_path))[0]
    assert task.image == "swebench/sweb.eval.x86_64.a_1776_b-1:latest"
    assert (task.base_commit, task.setup_commits, task.workdir, task.user) == ("abcd1234", 1, "/testbed", "root")


def test_terminal_bench(tmp_path: Path) -> None:
    """terminal-bench 0.2.18 (Python 3.12 and later): handlers/trial_handler.py, cli/template-task."""
    task = tmp_path / "tasks/hello"
    task.mkdir(parents=True)
    (task / "task.yaml").write_text("instruction: x\ndifficulty: easy\n")
    (task / "docker-compose.yaml").write_text(
        "services:\n  client:\n    image: demo/x:1\n    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}\n"
        '    command: [ "sh", "-c", "sleep infinity" ]\n    environment:\n      - TEST_DIR=${T_BENCH_TEST_DIR}\n'
        "    volumes:\n      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}\n"
    )
    (found,) = task_set.load(str(tmp_path))
    assert (found.budget.seconds, found.network, found.workdir) == (360, "bridge", None)
    assert found.env == {"TEST_DIR": "/tests"}


def test_programbench_of_another_organisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """programbench 1.2.5, constants.py: PROGRAMBENCH_DOCKER_ORG."""
    (tmp_path / "a__b.1").mkdir()
    (tmp_path / "a__b.1/task.yaml").write_text("repository: a/b\ncommit: abcd\n")
    monkeypatch.setenv("PROGRAMBENCH_DOCKER_ORG", "mirror")
    assert task_set.load(str(tmp_path))[0].image == "mirror/a_1776_b.1:task_cleanroom_v6"
    assert task_set.load(f"{tmp_path}?org=own")[0].image.startswith("own/")
