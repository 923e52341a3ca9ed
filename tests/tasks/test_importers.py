"""Task sets in every format: the real ones where a package holds them, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import UsageError
from taskgate.harness.tasks import manifest, manifest_dump, task_set
from taskgate.harness.tasks.importers.importer import Source, all_importers
from taskgate.harness.tasks.service_spec import Service
from taskgate.harness.tasks.task import Limits, Task
from tests.conftest import Gate
from tests.running import TASKGATE

PROGRAMBENCH, HARBOR = "programbench==1.2.5", "harbor==0.25.0"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the packages that hold real task sets, unpacked and not installed."""
    folder = tmp_path_factory.mktemp("packages")
    for name in (PROGRAMBENCH, HARBOR):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        # Nothing of them is run, so that it does not matter for which Python they are.
        command += ["--only-binary=:all:", "--ignore-requires-python", "--python-version=3.13", "-d", str(folder), name]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


def _round_trip(tasks: list[Task], folder: Path) -> None:
    path = folder / "written.yaml"
    path.write_text(manifest_dump.dump(tasks))
    assert manifest.load(path) == tasks


def test_programbench(packages: Path, tmp_path: Path) -> None:
    tasks = task_set.load(str(packages / "programbench"))
    assert len(tasks) == len({task.id for task in tasks}) == 200
    one = next(task for task in tasks if task.id == "ajeetdsouza__zoxide.67ca1bc")
    assert one.image == "programbench/ajeetdsouza_1776_zoxide.67ca1bc:task_cleanroom_v6"
    assert (one.network, one.workdir, one.platform, one.repo_path) == ("none", "/workspace", "linux/amd64", None)
    assert one.submission == "submission.tar.gz"
    assert not [task for task in tasks if task.id.startswith("testorg__")]
    _round_trip(tasks, tmp_path)
    data = packages / "programbench/data/tasks"
    assert task_set.load(str(data)) == tasks and task_set.load(f"{data}/{one.id}") == [one]
    other = task_set.load(f"{data}?tag=v6&match=a*")
    assert {task.image.rpartition(":")[2] for task in other} == {"v6"} and 0 < len(other) < 200


def test_programbench_as_an_installed_package(packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(packages))
    assert len(task_set.load("programbench")) == 200
    assert len(task_set.load("programbench", base=tmp_path)) == 200


def test_harbor_templates(packages: Path, tmp_path: Path) -> None:
    (task,) = task_set.load(str(packages / "harbor/analyze/analyze-task-template"))
    assert (task.image, task.workdir, task.budget.seconds) == ("python:3.13-slim", "/app", 1800)
    _round_trip([task], tmp_path)
    with pytest.raises(UsageError, match="taskgate build"):
        task_set.load(str(packages / "harbor/cli/template-task"))


HARBOR_TASK = """
schema_version = "1.4"
[task]
name = "org/one"
[agent]
timeout_sec = 60.5
user = 1000
[environment]
docker_image = "demo/one:1"
workdir = "/app"
network_mode = "MODE"
cpus = 2
memory_mb = 2048
storage_mb = 10240
env = {PLAIN = "x", FROM_HOST = "${API_KEY}", PRICE = "5$", DEFAULT = "${NO_SUCH:-d}"}
[environment.healthcheck]
command = "true"
"""


@pytest.mark.parametrize(("mode", "network"), [("public", "bridge"), ("no-network", "none"), ("allowlist", "none")])
def test_harbor(tmp_path: Path, mode: str, network: str) -> None:
    (tmp_path / "set/one").mkdir(parents=True)
    (tmp_path / "set/one/task.toml").write_text(HARBOR_TASK.replace("MODE", mode))
    (task,) = task_set.load(str(tmp_path / "set"))
    assert (task.id, task.image, task.network, task.user) == ("org/one", "demo/one:1", network, "1000")
    assert (task.limits.cpus, task.limits.memory, task.limits.disk) == (2, 2 << 30, 10 << 30)
    assert (
        task.env == {"PLAIN": "x", "PRICE": "5$", "DEFAULT": "d"}
        and task.budget.seconds == 60.5
        and task.workdir == "/app"
    )
    _round_trip([task], tmp_path)
    assert task_set.load(str(tmp_path / "set/one/task.toml")) == [task] == task_set.load(str(tmp_path / "set/one"))


def test_a_dataset_of_harbor(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        text = HARBOR_TASK.replace("MODE", "public").replace("org/one", f"org/{name}")
        (tmp_path / name / "task.toml").write_text(text)
    dataset = tmp_path / "dataset.toml"
    digest = "sha256:" + "0" * 64
    dataset.write_text(
        "[dataset]\nname = 'org/set'\n"
        + "".join(f"[[tasks]]\nname = 'org/{n}'\ndigest = '{digest}'\n" for n in ("one", "three"))
    )
    for source in (tmp_path, dataset):
        assert [task.id for task in task_set.load(str(source))] == ["org/one", "org/three"]
    dataset.write_text(dataset.read_text() + f"[[tasks]]\nname = 'org/four'\ndigest = '{digest}'\n")
    with pytest.raises(UsageError, match=r"dataset.toml: tasks: names tasks that are not beside it: four"):
        task_set.load(str(dataset))


ROWS: dict[str, tuple[dict[str, Any], tuple[str, str, str | None]]] = {
    "swebench": (
        {"instance_id": "django__django-11099", "repo": "django/django", "base_commit": "d26b2424"},
        ("swebench/sweb.eval.x86_64.django_1776_django-11099:latest", "/testbed", "d26b2424"),
    ),
    "capitals": (
        {"instance_id": "Org__Repo-1", "repo": "Org/Repo", "base_commit": "abcd"},
        ("swebench/sweb.eval.x86_64.org_1776_repo-1:latest", "/testbed", "abcd"),
    ),
    "named": ({"instance_id": "a__b-1", "image": "x/y:1"}, ("x/y:1", "/testbed", None)),
    "docker-image": (
        {"instance_id": "a__b-2", "docker_image": "x/y:2", "base_commit": "abcd"}, ("x/y:2", "/testbed", "abcd"),
    ),
    "live": (
        {"instance_id": "amoffat__sh-744", "repo": "amoffat/sh", "base_commit": "abcd", "test_cmds": ["pytest"]},
        ("starryzhang/sweb.eval.x86_64.amoffat_1776_sh-744:latest", "/testbed", "abcd"),
    ),
    "smith": (
        {"instance_id": "oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc", "repo": "swesmith/oauthlib__oauthlib.1fd52536"},
        ("swebench/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536:latest", "/testbed", None),
    ),
    "smith-named": (
        {"instance_id": "a__b.123.bug__1", "repo": "swesmith/a__b.123", "image_name": "jyangballin/swesmith.x86_64.a_1776_b.123"},
        ("jyangballin/swesmith.x86_64.a_1776_b.123", "/testbed", None),
    ),
    "multi": (
        {"org": "cli", "repo": "cli", "number": 10388, "base": {"ref": "trunk", "sha": "abcdef12"}, "instance_id": "cli__cli-10388"},
        ("mswebench/cli_m_cli:pr-10388", "/home/cli", "abcdef12"),
    ),
    "multi-capitals": (
        {"org": "ByteDance", "repo": "X", "number": 1, "base": {"sha": "abcd"}},
        ("mswebench/bytedance_m_x:pr-1", "/home/X", "abcd"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["json", "jsonl", "mapping", "parquet"])
def test_swebench_and_its_family(tmp_path: Path, form: str) -> None:
    rows = [row for row, _ in ROWS.values()]
    path = tmp_path / ("rows." + {"mapping": "json"}.get(form, form))
    if form == "json":
        path.write_text(json.dumps(rows))
    elif form == "mapping":
        path.write_text(json.dumps({row.get("instance_id", "ByteDance__X-1"): row for row in rows}))
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        # Of one table all rows have all columns: the families apart.
        found = []
        for number, (row, _) in enumerate(ROWS.values()):
            one = tmp_path / f"rows{number}.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**row, "patch": "x" * 1000}]), one)
            found += task_set.load(str(one))
    tasks = found if form == "parquet" else task_set.load(str(path))
    assert [(task.image, task.repo_path, task.base_commit) for task in tasks] == [told for _, told in ROWS.values()]
    assert tasks[-1].id == "ByteDance__X-1" and {task.platform for task in tasks} == {"linux/amd64"}
    _round_trip(tasks, tmp_path)


def test_predictions_limit_a_run(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"instance_id": f"a__b-{number}", "base_commit": "abcd"} for number in range(5)]))
    for name, text in (
        ("p.json", json.dumps([{"instance_id": "a__b-3", "model_patch": ""}])),
        ("p2.json", json.dumps({"a__b-3": {"model_patch": ""}})),
        ("p.jsonl", json.dumps({"instance_id": "a__b-3"})),
    ):
        (tmp_path / name).write_text(text)
        assert [task.id for task in task_set.load(f"{rows}?predictions={tmp_path / name}")] == ["a__b-3"]
    (tmp_path / "p.json").write_text(json.dumps([{"instance_id": "c__d-1"}]))
    with pytest.raises(UsageError, match=r"p.json: holds ids that .*rows.json doesn't: c__d-1"):
        task_set.load(f"{rows}?predictions={tmp_path}/p.json")
    live = task_set.load(f"{rows}?family=live")
    assert live[0].image.startswith("starryzhang/")


def _terminal(folder: Path, compose: str | None = None, dockerfile: str | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text("instruction: |-\n  Do it.\nmax_agent_timeout_sec: 360.0\ndifficulty: easy\n")
    if compose:
        (folder / "docker-compose.yaml").write_text(compose)
    if dockerfile:
        (folder / "Dockerfile").write_text(dockerfile)


COMPOSE = """
services:
  client:
    build: {context: ., dockerfile: Dockerfile, args: {KIND: plain}}
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: ["sh", "-c", "sleep infinity"]
"""


def test_terminal_bench(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    _terminal(tasks / "named", "services:\n  client:\n    image: demo/named:1\n    working_dir: /srv\n")
    (task,) = task_set.load(str(tmp_path))
    assert (task.id, task.image, task.workdir, task.budget.seconds) == ("named", "demo/named:1", "/srv", 360)
    _round_trip([task], tmp_path)
    _terminal(tasks / "built", COMPOSE, "FROM x\nWORKDIR /app\n")
    _terminal(tasks / "plain", None, "FROM x\nWORKDIR /first\nRUN true\nworkdir /second\n")
    found = task_set.read(str(tmp_path))
    assert isinstance(found, tuple)
    rows = {row.fields["id"]: row for row in found[1]}
    assert rows["built"].build and rows["built"].build.args == {"KIND": "plain"}
    assert rows["built"].fields["workdir"] == "/app" and rows["plain"].fields["workdir"] == "/second"
    with pytest.raises(UsageError, match="2 of 3 tasks bring a Dockerfile"):
        task_set.load(str(tmp_path))


def test_what_a_compose_file_says_is_judged_by(tmp_path: Path) -> None:
    service = """services:
  client:
    image: x/y:1
    user: 1234
    network_mode: none
    cpus: "0.5"
    mem_limit: 512mb
    environment: [FOO=bar, "PRICE=$$5", EMPTY=, "FROM_HOST=${HOME}", NAMED_ONLY]
    privileged: true
  db: {image: postgres}
"""
    _terminal(tmp_path / "set/one", service)
    with pytest.raises(UsageError, match=r"services.client.privileged: privileged containers are not supported"):
        task_set.load(str(tmp_path / "set"))
    (task,) = task_set.load(f"{tmp_path / 'set'}?ignore_unsupported=true")
    assert task.services == {"db": Service("postgres")}
    assert (task.user, task.network, dict(task.env)) == ("1234", "none", {"FOO": "bar", "PRICE": "$5", "EMPTY": ""})
    assert (task.limits.cpus, task.limits.memory, task.limits.pids) == (0.5, 512 << 20, 1024)
    mapping = "services: {client: {image: x, user: '${UID}', environment: {A: 1, B: '${C:-x}', D: }, cpus: 0, network_mode: host}}"
    _terminal(tmp_path / "other/one", mapping)
    with pytest.raises(UsageError, match="network_mode host is not supported"):
        task_set.load(str(tmp_path / "other"))
    (task,) = task_set.load(f"{tmp_path / 'other'}?ignore_unsupported=true")
    assert (task.user, task.network, dict(task.env), task.limits) == (None, "bridge", {"A": "1", "B": "x"}, Limits())
    # Harbor's own words come first; what either closes is closed.
    folder = tmp_path / "harbor/one"
    (folder / "environment").mkdir(parents=True)
    (folder / "environment/docker-compose.yaml").write_text(service.replace("client", "main"))
    (folder / "task.toml").write_text('[environment]\nmemory_mb = 64\nenv = {FOO = "own"}\n[agent]\nuser = "agent"\n')
    (task,) = task_set.load(f"{tmp_path / 'harbor'}?ignore_unsupported=true")
    assert (task.user, task.network, task.env["FOO"], task.env["PRICE"]) == ("agent", "none", "own", "$5")
    assert (task.limits.cpus, task.limits.memory) == (0.5, 64 << 20)
    # Also beside an image that Harbor names itself, unless it is of other services alone.
    (folder / "task.toml").write_text('[environment]\ndocker_image = "own/image:1"\n')
    (task,) = task_set.load(f"{tmp_path / 'harbor'}?ignore_unsupported=true")
    assert (task.image, task.user, task.network) == ("own/image:1", "1234", "none")
    (folder / "environment/docker-compose.yaml").write_text(service)
    (task,) = task_set.load(f"{tmp_path / 'harbor'}?ignore_unsupported=true")
    assert (task.image, task.user, task.network) == ("own/image:1", None, "bridge")


def test_the_engine(client: Any, sound: str, gate: Gate) -> None:
    tasks = task_set.load("engine://?match=taskgate-test/sound:*")
    assert [task.image for task in tasks] == ["taskgate-test/sound:1"] and tasks[0].pull == "never"
    run = gate(None, "--images=engine://?match=taskgate-test/sound:*", "--checks=git_available")
    assert run.status == 0 and list(run.tasks) == ["taskgate-test/sound:1"], run.output
    with pytest.raises(UsageError, match="expected engine://"):
        task_set.load("engine://host")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", '[{"instance_id": 3}]', "x.json:1: instance_id: must be text"),
        ("x.json", '{"instance_id": ', "is not JSON"),
        ("x.jsonl", '{"instance_id": "a"}\n{"instance_id"\n', "x.jsonl:2: is not JSON"),
        ("x.json", '[{"instance_id": "a\\n"}]', "x.json:1: id: contains a control character"),
        ("x.json", '[{"instance_id": "../../x"}]', "x.json:1: id: must not contain"),
        ("x.json", '[{"instance_id": "a"}, {"instance_id": "a"}]', "duplicate id 'a', already used on line 1"),
        ("x.json", '[{"instance_id": "a", "base_commit": "HEAD"}]', "x.json:1: base_commit: must be a commit id"),
        ("x.json", '[{"instance_id": "a", "image": 5}]', "x.json:1: image: must be text"),
        ("x.parquet", "PAR1 no", "is not Parquet, or is damaged"),
        ("t/task.toml", "[environment]\ndocker_image = 3", "t/task.toml: environment.docker_image: must be text"),
        ("t/task.toml", "[environment]\nnetwork_mode = 'some'", "environment.network_mode: must be one of"),
        (
            "t/task.toml",
            "[environment]\ndocker_image = 'x'\nmemory_mb = 0",
            "environment.memory_mb: must be more than 0",
        ),
        ("t/task.toml", "environment = 1", "t/task.toml: environment: must be a table"),
        ("t/task.toml", "[environment", "t/task.toml: is not TOML"),
        ("t/task.toml", "[environment]", "there is neither an image, nor a Dockerfile"),
        ("t/task.yaml", "repository: a/b\ncommit: ", "id"),
        ("t/task.yaml", "instruction: x", "there is neither an image, nor a Dockerfile"),
        (
            "x.txt",
            "nothing of the kind",
            "x.txt: is not a task set: expected a manifest (YAML or JSON Lines, with `tasks`), or",
        ),
        ("t/x.txt", "nothing of the kind", "harbor: task.toml, folders with one, dataset.toml, or registry.json"),
        ("x.yaml", "a: [", "x.yaml"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    source = path.parent.parent if name.startswith("t/") else path
    if said == "id":
        # Whatever the folder is called is the id.
        assert task_set.load(str(source))[0].image == "programbench/t:task_cleanroom_v6"
        return
    with pytest.raises(UsageError) as caught:
        task_set.load(str(source))
    assert said in str(caught.value) and path.name.split(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("compose", "said"),
    [
        ("services: []", "services: must be a mapping"),
        ("services: {a: {image: x}, b: {image: y}}", "None is called client"),
        ("services: {client: 5}", "services.client: must be a mapping"),
        ("services: {client: {build: {context: ../../..}}}", "leads out of the task's folder"),
        ("services: {client: {build: {dockerfile: /etc/passwd}}}", "leads out of the task's folder"),
        ("services: {client: {build: {dockerfile: Missing}}}", "there is no Missing"),
        ("services: {client: {build: [x]}}", "must be text or a mapping"),
        ("services: {client: {image: '${X}'}}", "names no image, and there is no Dockerfile"),
        ("services: {client: {image: x, user: [root]}}", "services.client.user: must be text or a number"),
        ('services: {client: {image: x, user: "a\\tb"}}', "services.client.user: contains a control character"),
        ("services: {client: {image: x, user: true}}", "services.client.user: must be text"),
        ("services: {client: {image: x, network_mode: {}}}", "services.client.network_mode: must be text"),
        ("services: {client: {image: x, cpus: many}}", "services.client.cpus: must be a number of processors"),
        ("services: {client: {image: x, cpus: nan}}", "services.client.cpus: must be a number of processors"),
        ("services: {client: {image: x, cpus: -1}}", "services.client.cpus: must be a number of processors"),
        ("services: {client: {image: x, mem_limit: 1}}", "services.client.mem_limit: must be at least 6m"),
        ("services: {client: {image: x, mem_limit: all}}", "services.client.mem_limit: must be a size"),
        ("services: {client: {image: x, environment: text}}", "services.client.environment: must be a mapping"),
        ("services: {client: {image: x, environment: [1]}}", "services.client.environment: must be a mapping"),
        ("services: {client: {image: x, environment: {'A B': x}}}", "environment.A B: is not a valid name"),
        ("services: {client: {image: x, environment: {A: [x]}}}", "environment.A: must be text or a number"),
        ('services: {client: {image: x, environment: {A: "a\\nb"}}}', "environment.A: contains a control character"),
    ],
)
def test_compose_files_that_will_not_do(tmp_path: Path, compose: str, said: str) -> None:
    _terminal(tmp_path / "set/one", compose)
    with pytest.raises(UsageError, match=said.replace("$", r"\$")):
        task_set.read(str(tmp_path / "set"))


def test_the_command(tmp_path: Path, packages: Path) -> None:
    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TASKGATE, "manifest", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **env},
        )

    (tmp_path / "defaults.yaml").write_text("{agent: {module: agent}, python: null, timeout: 5}")
    done = run(str(packages / "programbench"), "-o", "m.yaml", "--defaults=defaults.yaml")
    assert done.returncode == 0 and "200 tasks" in done.stderr
    tasks = manifest.load(tmp_path / "m.yaml")
    assert {(task.timeout, task.python) for task in tasks} == {(5.0, None)}
    assert run("m.yaml?match=a*").stdout.count("- id:") == 17
    for args, said in (
        (["nowhere"], "nowhere"),
        (["m.yaml", "--format=nonsense"], "--format: there is no format 'nonsense'; there are engine, harbor"),
        (["m.yaml?tag=x"], "m.yaml: tag: is not an option of a manifest"),
        ([str(packages / "programbench"), "--format=harbor"], "no tasks of Harbor"),
        (["m.yaml?match=nobody"], None),
        (["x?defaults=missing.yaml"], "x"),
        (["m.yaml?defaults=missing.yaml"], "m.yaml: defaults: a manifest has defaults of its own"),
        (["m.yaml", "--defaults=missing.yaml"], "m.yaml: defaults: a manifest has defaults of its own"),
    ):
        done = run(*args)
        assert "Traceback" not in done.stderr
        assert said is None or (done.returncode == 4 and said in done.stderr), done.stderr
    formats = run("--formats").stdout
    assert {line.split()[0] for line in formats.splitlines()} == set(all_importers())
    # Others add theirs.
    (tmp_path / "more").mkdir()
    (tmp_path / "more/lines.py").write_text(
        "from taskgate.harness.tasks.importers.importer import Importer, Row\n"
        "def load(source):\n"
        "    for number, line in enumerate(source.path.read_text().split(), 1):\n"
        "        yield Row({'image': line}, source.text, number)\n"
        "IMPORTER = Importer('lines', 'an image a line', lambda source: source.text.endswith('.lines'), load)\n"
    )
    (tmp_path / "more/lines-1.dist-info").mkdir()
    (tmp_path / "more/lines-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1\n")
    (tmp_path / "more/lines-1.dist-info/entry_points.txt").write_text("[taskgate.importers]\nlines = lines\n")
    (tmp_path / "x.lines").write_text("demo/a:1\ndemo/b:1\n")
    done = run("x.lines", PYTHONPATH=str(tmp_path / "more"))
    assert done.stdout.count("demo/") == 2 and done.returncode == 0, done.stderr


def test_the_gate_takes_a_task_set(gate: Gate, tmp_path: Path, sound: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instance_id": "a__b-1", "image": sound}]))
    run = gate(None, "--images=rows.json")
    assert run.status == 0 and list(run.tasks) == ["a__b-1"], run.output
    run = gate(None, "--images=rows.json", "--format=harbor")
    assert run.status == 4 and "no tasks of Harbor" in run.output


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["x.json", "x.jsonl", "x.parquet", "task.toml", "task.yaml", "dataset.toml", "x.yaml"]),
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: ('{"instance_id": ' + text).encode("utf-8", "replace")),
    ),
)
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("s")
    (folder / name).write_bytes(data)
    for source in (folder / name, folder):
        try:
            task_set.load(str(source))
        except UsageError as error:
            assert str(folder) in str(error)


def test_sources() -> None:
    assert Source.parse("a?tag=x&match=*") == Source("a", {"tag": "x", "match": "*"})
    assert Source.parse("a") == Source("a")


# Building.


def test_building(tmp_path: Path, client: Any, sound: str, gate: Gate) -> None:
    tasks = tmp_path / "set/tasks"
    _terminal(
        tasks / "good-one",
        COMPOSE,
        f"# {secrets.token_hex(8)}\nFROM {sound}\nARG KIND\nWORKDIR /app\nCOPY . /app/\nRUN echo $KIND >kind\n",
    )
    (tasks / "good-one/.dockerignore").write_text("secret.txt\n")
    (tasks / "good-one/secret.txt").write_text("no")
    _terminal(tasks / "bad", None, f"FROM {sound}\nRUN echo all is lost && exit 3\n")
    _terminal(tasks / "worse", None, "NONSENSE\n")
    _terminal(tasks / "named", f"services: {{client: {{image: '{sound}'}}}}")
    (tmp_path / "defaults.yaml").write_text("{pull: never, checks: {home: warn}}")

    def build(*args: str) -> subprocess.CompletedProcess[str]:
        command = [*TASKGATE, "build", "set", "-o", "m.yaml", "--defaults=defaults.yaml", *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)

    done = build("-j2")
    assert done.returncode == 1, done.stderr
    assert "3 images: " in done.stdout and "1 built" in done.stdout and "2 failed" in done.stdout
    assert "all is lost" in (tmp_path / "results/built/bad.log").read_text()
    found = {task.id: task for task in manifest.load(tmp_path / "m.yaml")}
    assert set(found) == {"good-one", "named"} and found["good-one"].image.startswith("taskgate-build/good-one:")
    image = found["good-one"].image
    said = client.containers.run(image, ["sh", "-c", "cat kind; ls"], entrypoint=[], remove=True, working_dir="/app")
    assert said.decode().split() == ["plain", "Dockerfile", "docker-compose.yaml", "kind", "task.yaml"]
    again = build()
    assert f"there    good-one  {image}" in again.stdout
    # Another content is another image.
    (tasks / "good-one/new.txt").write_text("x")
    build()
    assert {task.id: task for task in manifest.load(tmp_path / "m.yaml")}["good-one"].image != image
    run = gate(None, "--images=m.yaml")
    assert run.status == 0, run.output
    for task in manifest.load(tmp_path / "m.yaml"):
        if task.id == "good-one":
            client.images.remove(task.image)
    client.images.remove(image)


def test_building_needs_something_to_build(tmp_path: Path, client: Any) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\ntasks: [x]\n")
    done = subprocess.run(
        [*TASKGATE, "build", "m.yaml", "-o", "n.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4 and "is a manifest: all its tasks name an image" in done.stderr
