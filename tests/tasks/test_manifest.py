"""The manifest: what it can say, and what it answers to mistakes and to malice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.base.errors import ManifestError
from taskgate.harness.tasks import manifest, schema
from taskgate.harness.tasks.importers.importer import Row
from taskgate.harness.tasks.service_spec import Service
from taskgate.harness.tasks.task import Agent, Budget, Limits, Require, Task
from tests.conftest import CLONE


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "m.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_whole_task(write: Any) -> None:
    path = write("""
version: 1
defaults: {repo_path: /d, timeout: 5, checks: {tmp: off, disk: warn}, agent: {module: a.b}, require: {files: [x]}}
tasks:
  - {id: one, image: "demo/one:1", base_commit: 0123456, repo_path: /testbed, checks: {git_future: fail, tmp: fail}}
  - {id: two, image: i, agent: null, require: {commands: [cargo]}, user: 1000, python: null, workdir: /w}
  - {id: 3, image: j, agent: {command: "run it"}, base_commit: 1e10}
  - demo/four@sha256:abc
""")
    one, two, three, four = manifest.load(path)
    assert one == Task(
        id="one", image="demo/one:1", base_commit="0123456", repo_path="/testbed", timeout=5.0,
        agent=Agent(module="a.b"), require=Require(files=("x",)),
        checks={"tmp": "fail", "disk": "warn", "git_future": "fail"},
    )  # fmt: skip
    assert (two.agent, two.user, two.python, two.workdir) == (None, "1000", None, "/w")
    assert two.require == Require(commands=("cargo",), files=("x",))
    assert three.id == "3" and three.base_commit == "1e10"
    assert three.agent == Agent(command=("/bin/sh", "-c", "run it"))
    assert four.id == "demo__four-sha256-abc" and four.repo_path == "/d"
    assert four.checks == {"tmp": "off", "disk": "warn"}


def test_json_lines(write: Any) -> None:
    text = '{"version": 1, "defaults": {"repo_path": "/t"}}\n\n{"id": "a", "image": "x"}\n"demo/b:1"\n'
    assert [(t.id, t.repo_path) for t in manifest.load(write(text, "m.jsonl"))] == [("a", "/t"), ("demo__b-1", "/t")]


def test_anchors_and_merge_keys(write: Any) -> None:
    path = write("""
version: 1
tasks:
  - &base {id: a, image: x, timeout: 3}
  - {<<: *base, id: b}
  - {id: c, <<: *base}
""")
    assert [(t.id, t.image, t.timeout) for t in manifest.load(path)] == [("a", "x", 3), ("b", "x", 3), ("c", "x", 3)]


@pytest.mark.parametrize(
    "task_id", ["django__django-11099", "a@b:c/d e", "名前", "x" * 300, "a::b[c]", "-k", "$(id)", "<img src=x>"]
)
def test_ids_that_are_fine(write: Any, task_id: str) -> None:
    path = write(json.dumps({"version": 1, "tasks": [{"id": task_id, "image": "x"}]}))
    assert manifest.load(path)[0].id == task_id


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        " a",
        "a ",
        "#a",
        "../a",
        "a/../b",
        "..",
        ".",
        "/a",
        "a\nb",
        "a\0b",
        "a\u202eb",
        "x" * 513,
        "=======",
        "a\u200bb",
    ],
)
def test_ids_that_are_refused(write: Any, task_id: str) -> None:
    path = write(json.dumps({"version": 1, "tasks": [{"id": task_id, "image": "x"}]}))
    with pytest.raises(ManifestError) as told:
        manifest.load(path)
    assert told.value.field == "tasks[0].id" and told.value.line == 1


def test_a_task_adds_to_the_defaults_mappings(write: Any) -> None:
    """One level deep; what a task sets counts, and null stands for the built-in default."""
    path = write("""
version: 1
defaults:
  limits: {memory: 8g, cpus: 4, disk: 10g}
  budget: {seconds: 60}
  env: {A: "1", B: "1"}
  require: {files: [x], commands: [make]}
  checks: {tmp: off}
  agent: {server: serve, port: 80}
tasks:
  - {id: a, image: x, limits: {cpus: 2, disk: null}, budget: {calls: 3}, env: {B: "2"}, require: {commands: [cargo]}}
  - {id: b, image: x, agent: {server: other}}
""")
    a, b = manifest.load(path)
    assert a.limits == Limits(cpus=2, memory=8 << 30) and a.budget == Budget(seconds=60, calls=3)
    assert a.env == {"A": "1", "B": "2"} and a.require == Require(commands=("cargo",), files=("x",))
    assert b.limits == Limits(cpus=4, memory=8 << 30, disk=10 << 30) and b.checks == {"tmp": "off"}
    # An agent is one thing: it replaces the defaults'.
    assert b.agent and b.agent.port == 8000


def test_the_rows_of_an_importer_add_to_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("{limits: {memory: 8g}, env: {A: x}}")
    row = Row({"image": "x", "limits": {"cpus": 2}, "env": {"B": "y"}}, "rows")
    (task,) = manifest.from_rows([row], defaults=tmp_path / "d.yaml")
    assert task.limits == Limits(cpus=2, memory=8 << 30) and task.env == {"A": "x", "B": "y"}


def test_what_a_source_says_by_default_gives_way_to_the_users(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("{repo_path: /testbed}")
    row = Row({"image": "x"}, "rows", fallback={"repo_path": None})
    assert manifest.from_rows([row])[0].repo_path is None
    assert manifest.from_rows([row], defaults=tmp_path / "d.yaml")[0].repo_path == "/testbed"


def test_all_mistakes_at_once(write: Any) -> None:
    path = write("""
version: 1
default: {}
tasks:
  - {image: x, timeout: soon, limits: {cpus: many, memori: 4g}}
  - {image: y, agent: {}}
  - z
""")
    with pytest.raises(ManifestError) as caught:
        manifest.load(path)
    lines = str(caught.value).splitlines()
    assert lines == [
        f"{path}:3: default: unknown field; did you mean defaults?",
        f"{path}:5: tasks[0].timeout: must be a number of seconds (for example, `timeout: 30`)",
        f"{path}:5: tasks[0].limits.cpus: must be a number of processors (for example, `cpus: 2`)",
        f"{path}:5: tasks[0].limits.memori: unknown field; did you mean memory?",
        f"{path}:6: tasks[1].agent: takes exactly one of module, command and server, or run alone "
        "(for example, `agent: {module: agent}`)",
    ]
    assert (caught.value.line, caught.value.field) == (3, "default")


def test_of_very_many_mistakes_some_are_shown(write: Any) -> None:
    rows = "".join(f'{{"id": "t{n}", "image": "x", "timeout": -1}}\n' for n in range(30_000))
    with pytest.raises(ManifestError) as caught:
        manifest.load(write(rows, "m.jsonl"))
    assert len(str(caught.value).splitlines()) == 21 and str(caught.value).endswith("and 29,980 more")


@pytest.mark.parametrize(
    ("workdir", "image", "repository", "start"),
    [
        ("/task", "/image", "/repo", "/task"),
        (None, "/image", "/repo", "/image"),
        (None, "", "/repo", "/repo"),
        (None, "/", "/repo", "/repo"),
        (None, "relative", "/repo", "/repo"),
        (None, "", None, "/"),
    ],
)
def test_where_the_agent_starts(workdir: str | None, image: str, repository: str | None, start: str) -> None:
    assert Task("t", "x", workdir=workdir, repo_path=repository).start_dir(image) == start


def test_a_fingerprint_changes_with_what_is_judged_alone() -> None:
    task = Task("t", "x")
    assert task.settings() == {"image": "x"}
    assert task.fingerprint() == replace(task, id="u", pull="never", budget=Budget(calls=1)).fingerprint()
    assert task.container_settings() == {} and replace(task, gpus="1", user="a").container_settings() == {"gpus": "1"}
    services = replace(task, services={"db": Service("x", env={"A": "b"})})
    assert services.container_settings()["services"]["db"]["env"] == {"A": "b"}
    assert len({task.fingerprint(), services.fingerprint(), replace(task, gpus="1").fingerprint()}) == 3
    assert len({task.fingerprint(), replace(task, workdir="/w").fingerprint(), task.fingerprint("more")}) == 3


TASK = "version: 1\ntasks:\n- image: x\n  "
MISTAKES = {
    "": (None, None, "empty"),
    "tasks: []": (1, "version", "missing"),
    "version: 2\ntasks: []": (1, "version", "must be 1"),
    "version: '1'\ntasks: []": (1, "version", "must be 1"),
    "version: 1": (1, "tasks", "missing"),
    "version: 1\ntasks: {}": (2, "tasks", "list"),
    "version: 1\ntask: []\ntasks: []": (2, "task", "did you mean tasks"),
    "version: 1\nversion: 1\ntasks: []": (2, "version", "duplicate key"),
    "version: 1\ndefaults: {id: x}\ntasks: []": (2, "defaults.id", "belongs in a task"),
    "version: 1\ntasks:\n- id: a": (3, "tasks[0].image", "missing"),
    "version: 1\ntasks:\n- {id: a, image: x}\n- {id: a, image: y}": (4, "tasks[1].id", "line 3"),
    TASK + "imagee: y": (4, "tasks[0].imagee", "did you mean image"),
    TASK + "timeout: -1": (4, "tasks[0].timeout", "more than 0"),
    TASK + "timeout: .inf": (4, "tasks[0].timeout", "number"),
    TASK + "timeout: '3'": (4, "tasks[0].timeout", "number"),
    TASK + "pull: sometimes": (4, "tasks[0].pull", "missing, always, never"),
    TASK + "base_commit: xyz": (4, "tasks[0].base_commit", "hexadecimal"),
    TASK + "repo_path: relative": (4, "tasks[0].repo_path", "absolute"),
    TASK + "agent: {}": (4, "tasks[0].agent", "exactly one"),
    TASK + "agent: {module: a, server: b}": (4, "tasks[0].agent", "exactly one"),
    TASK + "agent: {module: a, port: 80}": (4, "tasks[0].agent.port", "is for a server only"),
    TASK + "agent: {server: a, port: 70000}": (4, "tasks[0].agent.port", "from 1 to 65535"),
    TASK + "agent: {server: a, health: no}": (4, "tasks[0].agent.health", "path of a URL"),
    TASK + "agent: {server: a, run: b}": (4, "tasks[0].agent.run", "not for a server"),
    TASK + 'agent: {run: "it\'s"}': (4, "tasks[0].agent.run", "can't be split into words"),
    TASK + "limits: {memory: much}": (4, "tasks[0].limits.memory", "must be a size"),
    TASK + "limits: {memory: 1k}": (4, "tasks[0].limits.memory", "at least 6m"),
    TASK + "limits: {cpus: 0}": (4, "tasks[0].limits.cpus", "more than 0"),
    TASK + "budget: {seconds: long}": (4, "tasks[0].budget.seconds", "number of seconds"),
    TASK + "budget: {calls: 1.5}": (4, "tasks[0].budget.calls", "whole number"),
    TASK + "env: {A-B: c}": (4, "tasks[0].env.A-B", "not a valid name of an environment variable"),
    TASK + "submission: ../x": (4, "tasks[0].submission", "must not contain"),
    TASK + "submission: /work/isolation.json": (4, "tasks[0].submission", "taskgate keeps"),
    TASK + "submission: agent.log": (4, "tasks[0].submission", "taskgate keeps"),
    TASK + "submission: a/result.json": (4, "tasks[0].submission", "taskgate keeps"),
    TASK + "agent: {module: 'a b'}": (4, "tasks[0].agent.module", "module name"),
    TASK + "agent: {command: []}": (4, "tasks[0].agent.command", "empty"),
    TASK + "python: '>3.x.y.z!'": (4, "tasks[0].python", "specifier"),
    TASK + "runtime: {mode: sideways}": (4, "tasks[0].runtime.mode", "auto, mount, layer, build"),
    TASK + "runtime: {from_image: 'a:1'}": (4, "tasks[0].runtime.path", "missing"),
    TASK + "runtime: {from_image: 'a:1', tar: x, path: /opt/x}": (4, "tasks[0].runtime", "only one"),
    TASK + "runtime: {path: /opt/x}": (4, "tasks[0].runtime", "digest"),
    TASK + "runtime: {tar: x, path: /usr}": (4, "tasks[0].runtime.path", "two or more parts"),
    TASK + "runtime: {tar: x, path: /opt/../etc}": (4, "tasks[0].runtime.path", "two or more parts"),
    TASK + "runtime: {tar: x, path: '/opt/a:ro'}": (4, "tasks[0].runtime.path", "two or more parts"),
    TASK + "runtime: {tar: x, agent: y}": (4, "tasks[0].runtime", "own bundle"),
    TASK + "runtime: {mode: present}": (4, "tasks[0].runtime", "takes a path"),
    TASK + "network: 'container:x'": (4, "tasks[0].network", "network"),
    TASK + "require: {commands: cargo}": (4, "tasks[0].require.commands", "list"),
    TASK + "require:\n    files:\n    - ok\n    - {}": (7, "tasks[0].require.files[1]", "text"),
    TASK + "checks: {tmp: false}": (4, "tasks[0].checks.tmp", "fail, warn, off"),
    TASK + "checks: {'a b': off}": (4, "tasks[0].checks.a b", "name of a check"),
    "version: 1\ntasks:\n- -x": (3, "tasks[0].image", "not a valid image name"),
    "version: 1\ntasks: [*a]": (2, None, "is not defined"),
    "version: 1\ntasks: &a [*a]": (2, None, "inside what it names"),
    "version: 1\ntasks: [!!python/object:os.system x]": (2, None, "tag"),
    "version: 1\ntasks: []\n---\nversion: 1": (3, None, "more than one"),
    "version: 1\ntasks: [": (3, None, "not YAML"),
    "version: 1\ntasks: [a\0b]": (None, None, "not YAML"),
    "version: 1\ntasks: " + "[" * 5000: (2, None, "nested"),
    "? {a: b}\n: c": (1, None, "plain word"),
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: repr(text[-40:]))
def test_mistakes_name_file_line_and_field(write: Any, text: str) -> None:
    line, field, said = MISTAKES[text]
    path = write(text)
    with pytest.raises(ManifestError) as told:
        manifest.load(path)
    assert str(path) in str(told.value) and said in str(told.value)
    assert told.value.field == field
    if line is not None:
        assert told.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('{"image": "x"}\n{"image": }', 2, "not JSON"),
        ('{"image": "x", "image": "y"}', 1, "duplicate key"),
        ('{"image": "x"}\n{"image": "x"}', 2, "duplicate id 'x', already used on line 1"),
        ('\n\n{"image": "' + "x" * (2 << 20) + '"}', 3, "longer than"),
        ('{"image": "x", "timeout": NaN}', 1, "number"),
        ("[" * 100_000, 1, "JSON"),
    ],
)
def test_mistakes_in_json_lines(write: Any, text: str, line: int, said: str) -> None:
    with pytest.raises(ManifestError) as told:
        manifest.load(write(text, "m.jsonl"))
    assert told.value.line == line and said in str(told.value)


def test_what_is_no_file(tmp_path: Path, write: Any) -> None:
    for path in (tmp_path, tmp_path / "none.yaml", write(b"\xff\xfe\x00bad", "b.yaml")):
        with pytest.raises(ManifestError) as told:
            manifest.load(path)
        assert str(path) in str(told.value)


def test_a_billion_laughs_are_not_expanded(write: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(ManifestError, match="expand"):
        manifest.load(write("\n".join(lines)))


def test_many_tasks(write: Any) -> None:
    rows = "".join(f'{{"id": "t{n}", "image": "i:{n}", "base_commit": "{n:040x}"}}\n' for n in range(100_000))
    assert len(manifest.load(write(rows, "m.jsonl"))) == 100_000


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("m")
    for name in ("m.yaml", "m.jsonl"):
        (folder / name).write_bytes(data)
        try:
            manifest.load(folder / name)
        except ManifestError as error:
            assert str(folder / name) in str(error)


WORDS = st.sampled_from(
    [
        "x",
        "demo/one:1",
        "a b",
        "",
        "-x",
        "/abs",
        "linux/amd64",
        "never",
        "off",
        "fail",
        "json",
        ">=3",
        "4g",
        "a/result.json",
        "no-new",
        "/opt/python",
    ]
)
KEYS = [
    *("module", "command", "server", "run", "probe", "port", "health", "commands", "files", "tmp"),
    *("cpus", "memory", "disk", "seconds", "calls", "HOME"),
    *("image", "interval", "start_period", "depends_on", "add", "drop", "nofile", "url", "transport", "name"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from(
    [
        "id",
        "image",
        "base_commit",
        "repo_path",
        "workdir",
        "platform",
        "user",
        "pull",
        "timeout",
        "agent",
        "python",
        "runtime",
        "network",
        "require",
        "checks",
        "env",
        "limits",
        "budget",
        "submission",
        "setup_commits",
        "shell",
        "privileges",
        "checkout",
        "shm_size",
        "init",
        "gpus",
        "capabilities",
        "security_opt",
        "ulimits",
        "tmpfs",
        "services",
        "healthcheck",
        "mcp_servers",
        "skills_dir",
        "artifacts",
        "ignore_unsupported",
        "x",
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=4))
def test_the_schema_agrees(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    """What the schema accepts the loader does, but for what only the loader can know; and never the reverse."""
    document = {"version": 1, "tasks": [{"image": "demo/x:1", **fields}]}
    path = tmp_path_factory.mktemp("m") / "m.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    try:
        manifest.load(path)
        loads = True
    except ManifestError:
        loads = False
    valid = not list(jsonschema.Draft202012Validator(manifest.schema()).iter_errors(document))
    if loads and not valid:
        # The loader takes a scalar's text for a text: `id: true` names a task "true".
        assert any(isinstance(value, bool | int) for value in _leaves(fields))
    if valid and not loads:
        assert "python" in fields or any(str(value) == "a b" for value in _leaves(fields)), fields


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


def test_the_schema_is_generated_from_the_model() -> None:
    shipped = (CLONE / "harness/tasks/manifest.schema.json").read_text()
    assert shipped == schema.text(), "run scripts/schema"
    assert json.loads(shipped) == manifest.schema()


def test_every_field_has_a_description_and_an_example_that_is_valid() -> None:
    for name, known in manifest.schema()["$defs"]["task"]["properties"].items():
        known = manifest.schema()["$defs"]["settings"]["properties"].get(name, known)
        assert known["description"] and known["examples"], name
        for example in known["examples"]:
            jsonschema.validate({"version": 1, "tasks": [{"image": "x", name: example}]}, manifest.schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(manifest.schema())


def test_the_demo_manifest_follows_the_schema() -> None:
    path = CLONE / "examples/manifest.yaml"
    document = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    assert len(manifest.load(path)) == len(document["tasks"])
    document["version"] = 1
    for task in document["tasks"]:
        if task.get("repo_path") == "null":
            task["repo_path"] = None
    jsonschema.validate(document, manifest.schema())


def test_a_run_in_one_text(write: Any) -> None:
    """Its words, so that the id can be added; a command's text is for a shell."""
    text = "version: 1\ntasks:\n- {id: a, image: x, agent: {run: \"agent_run --name 'a b'\"}}\n"
    (task,) = manifest.load(write(text + "- {id: b, image: x, agent: {command: agent --version}}\n"))[:1]
    assert task.agent and task.agent.run == ("agent_run", "--name", "a b")


def test_how_an_agent_is_started(write: Any) -> None:
    """Through a shell, by an interpreter of its own, with or without new privileges."""
    path = write("""
version: 1
defaults: {shell: [bash, -lc], privileges: default, setup_commits: 1}
tasks:
- {id: a, image: x, python: /opt/venv/bin/python, agent: {run: [agent_run], probe: [agent_run, --version]}}
- {id: b, image: x, shell: "bash -lc", privileges: no-new, setup_commits: 0, agent: {module: m, probe: "m --version"}}
- {id: c, image: x, shell: null}
""")
    a, b, c = manifest.load(path)
    assert (a.shell, a.privileges, a.setup_commits) == (("bash", "-lc"), "default", 1)
    assert a.agent == Agent(run=("agent_run",), probe=("agent_run", "--version"))
    assert a.python_path == "/opt/venv/bin/python" and b.python_path is None
    assert (b.shell, b.privileges, b.setup_commits) == (("bash", "-lc"), "no-new", 0)
    assert b.agent == Agent(module="m", probe=("/bin/sh", "-c", "m --version"))
    assert c.shell is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ("shell: []", "shell"),
        ("privileges: root", "privileges"),
        ("setup_commits: -1", "setup_commits"),
        ("setup_commits: many", "setup_commits"),
        ("python: bin/python", "python"),
        ("agent: {probe: [x]}", "agent"),
        ("agent: {run: [x], probe: []}", "agent.probe"),
    ],
)
def test_what_an_agent_is_not_started_by(write: Any, fields: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest.load(write(f"version: 1\ntasks:\n- {{image: x, {fields}}}\n"))
    assert caught.value.field == f"tasks[0].{field}"
