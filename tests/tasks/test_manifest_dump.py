"""A manifest that was written reads as the tasks that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgate.harness.tasks import manifest, manifest_dump
from taskgate.harness.tasks.agent_tools import McpServer
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.service_spec import Healthcheck, Service
from taskgate.harness.tasks.task import LEVELS, PULLS, Agent, Budget, Capabilities, Limits, Require, Task

NAME = st.from_regex(r"[A-Za-z0-9_é][A-Za-z0-9_.é -]{0,20}[A-Za-z0-9_é]", fullmatch=True)
PATH = st.from_regex(r"/[a-z0-9/ _.-]{0,20}[a-z]", fullmatch=True)
SUBMISSION = PATH.filter(lambda path: not {".", ".."} & set(path.split("/")))
AGENTS = st.one_of(
    st.none(),
    st.builds(Agent, module=st.sampled_from(["agent", "a.b"])),
    st.builds(Agent, command=st.lists(NAME, min_size=1, max_size=3).map(tuple)),
    st.builds(Agent, server=st.just(("serve", "-x")), port=st.integers(1, 65535), health=st.just("/ready?x=1")),
    st.builds(Agent, module=st.just("agent"), run=st.just(("agent_run", "--fast"))),
    st.builds(Agent, run=st.just(("agent_run",)), probe=st.just(("agent_run", "--version"))),
)
RUNTIMES = st.one_of(
    st.none(),
    st.builds(Runtime, mode=st.sampled_from(["auto", "mount"]), agent=st.just("/x/agent.py")),
    st.builds(Runtime, tar=st.just("/x/y.tar"), path=st.sampled_from([None, "/opt/thing"])),
    st.builds(Runtime, mode=st.just("present"), path=st.just("/opt/thing")),
)
SERVICES = {
    "db": Service("postgres:16", command=("a", ""), env={"A": "b c"}, volumes=("data:/data:ro",)),
    "web": Service("x", user="1", workdir="/w", depends_on=("db",), healthcheck=Healthcheck(("ping",), retries=9)),
}
TASKS = st.builds(
    Task,
    id=NAME,
    image=st.sampled_from(["demo/one:1", "demo/two@sha256:" + "0" * 64, "x"]),
    repo_path=st.none() | PATH,
    workdir=st.none() | PATH,
    base_commit=st.none() | st.sampled_from(["0123456", "1e10", "abcdef" * 6]),
    user=st.none() | st.sampled_from(["dev", "1000:1000", "0"]),
    pull=st.sampled_from(PULLS),
    timeout=st.floats(0.1, 86400),
    agent=AGENTS,
    python=st.sampled_from([None, ">=3.9", "==3.11.*", "/opt/python"]),
    shell=st.sampled_from([None, ("bash", "-lc")]),
    privileges=st.sampled_from(["no-new", "default"]),
    setup_commits=st.integers(0, 9),
    runtime=RUNTIMES,
    network=st.sampled_from(["bridge", "none", "null-net"]),
    env=st.dictionaries(st.sampled_from(["HOME", "_x1"]), st.sampled_from(["", "a b", "1", "true", "${X}"])),
    limits=st.builds(
        Limits, cpus=st.none() | st.floats(0.01, 64), memory=st.integers(6 << 20, 1 << 50), pids=st.integers(1, 9999)
    ),
    budget=st.builds(Budget, seconds=st.none() | st.floats(0.5, 9999), calls=st.none() | st.integers(1, 99)),
    submission=st.none() | SUBMISSION | st.just("submission.tar.gz"),
    require=st.builds(
        Require, commands=st.lists(NAME, max_size=2).map(tuple), files=st.lists(PATH, max_size=2).map(tuple)
    ),
    checkout=st.none() | st.sampled_from(["a__b.1234.bug", "v1.0", "feature/x"]),
    shm_size=st.none() | st.integers(6 << 20, 1 << 40),
    init=st.booleans(),
    gpus=st.sampled_from([None, "all", "2"]),
    capabilities=st.builds(Capabilities, add=st.sampled_from([(), ("SYS_PTRACE", "CAP_NET_RAW")])),
    security_opt=st.sampled_from([(), ("seccomp=unconfined",)]),
    ulimits=st.sampled_from([{}, {"nofile": "1:2", "core": "-1:-1"}]),
    tmpfs=st.sampled_from([(), ("/run:size=1m,mode=0700", "/x")]),
    services=st.sampled_from([{}, SERVICES]),
    healthcheck=st.none() | st.just(Healthcheck(("test", "-e", "/x"), interval=0.5)),
    mcp_servers=st.sampled_from(
        [(), (McpServer("a", url="http://x"), McpServer("b", "stdio", command="c", args=("-d",)))]
    ),
    skills_dir=st.none() | PATH,
    artifacts=st.lists(PATH, max_size=2).map(tuple),
    checks=st.dictionaries(st.sampled_from(["tmp", "home"]), st.sampled_from(LEVELS)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TASKS, max_size=5, unique_by=lambda task: task.id))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "written.yaml"
    path.write_text(manifest_dump.dump(tasks))
    assert manifest.load(path) == tasks


def test_what_is_shared_stands_in_the_defaults() -> None:
    tasks = [Task(f"t{number}", "demo/one:1", repo_path="/testbed", timeout=5.0) for number in range(3)]
    text = manifest_dump.dump(tasks)
    assert text.count("/testbed") == 1 and "defaults:" in text
