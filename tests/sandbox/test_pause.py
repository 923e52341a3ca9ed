"""One network namespace for the images that a worker checks, one after another; never two at the same time."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate as Judge
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.sandbox import pause
from taskgate.harness.tasks.task import Task
from tests.conftest import Gate

# Tells the pause containers of these tests from those of others that run at the same time.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "one")
OWN = f"taskgate-test/paused-{WORKER}:1"
HEAD = "version: 1\ndefaults: {pull: never, repo_path: null, checks: {network: off}}\ntasks:\n"
CHECK = """
import os
from taskgate.checks import Warn, check

@check(after="shell")
def namespace(sandbox):
    '''Says which network namespace it is in, and who else is.'''
    yield Warn(sandbox.sh("readlink /proc/self/ns/net; cat /proc/net/tcp | wc -l").out.replace("\\n", " "))
"""


@pytest.fixture(scope="module")
def sound(sound: str, client: Any) -> str:
    return images.build(client, OWN, f"FROM {sound}\nLABEL paused={WORKER}")


@pytest.fixture
def told(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/namespace.py").write_text(CHECK)


def _namespaces(tasks: dict[str, Any]) -> dict[str, str]:
    return {
        name: finding["reason"].split()[0]
        for name, task in tasks.items()
        for finding in task["findings"]
        if finding["check"] == "namespace"
    }


@pytest.mark.usefixtures("told")
def test_who_shares_a_namespace(gate: Gate, sound: str, client: Any) -> None:
    """What is on an ordinary network shares one; what has no network, or serves on a port, has one of its own."""
    rows = {
        "a": "",
        "b": "",
        "none-1": "network: none, ",
        "none-2": "network: none, ",
        "server": "agent: {server: [python3, -m, http.server, '8000'], health: /}, ",
        "c": "",
    }
    text = HEAD + "".join(f"- {{id: {name}, {more}image: '{sound}'}}\n" for name, more in rows.items())
    run = gate(text, "--check-path=mine")
    assert run.status == 0, run.output
    seen = _namespaces(run.tasks)
    # The number of one that is gone may be used again, that of the one that they share is in use.
    assert seen["a"] == seen["b"] == seen["c"]
    assert seen["a"] not in (seen["none-1"], seen["none-2"], seen["server"]), seen
    assert _pauses(client) == []


@pytest.mark.usefixtures("told")
def test_every_worker_has_one(gate: Gate, sound: str) -> None:
    text = HEAD + "".join(f"- {{id: t{number}, image: '{sound}'}}\n" for number in range(6))
    run = gate(text, "--check-path=mine", "-n", "2")
    assert run.status == 0, run.output
    assert len(set(_namespaces(run.tasks).values())) == 2


@pytest.fixture
def judge() -> Iterator[Judge]:
    made = Judge(Engine, registry.load(), session=ownership.new_session())
    yield made
    made.close()


def _pauses(client: Any) -> list[str]:
    return [found["Id"] for found in client.api.containers(all=True, filters={"label": pause.LABEL, "ancestor": OWN})]


def test_one_that_is_gone_costs_no_verdict(judge: Judge, sound: str, client: Any) -> None:
    task = Task("one", sound, repo_path=None, pull="never")
    before = set(_pauses(client))
    assert judge.judge(task).verdict is Verdict.HEALTHY
    (ours,) = set(_pauses(client)) - before
    client.api.remove_container(ours, force=True)
    assert judge.judge(task).verdict is Verdict.HEALTHY


def test_a_network_that_is_none_is_still_infra(judge: Judge, sound: str) -> None:
    record = judge.judge(Task("one", sound, repo_path=None, pull="never", network="no-such-network"))
    assert record.verdict is Verdict.INFRA and "no-such-network" in (record.reason or "")


HOLDER = """
import sys, time
from taskgate.harness.sandbox import pause
from taskgate.harness.engine.client import Engine
from taskgate.harness.tasks.task import Task

engine, task = Engine(), Task("one", sys.argv[1], pull="never")
print(pause.Pauses(engine, "tests").network(task, engine.image(task.request)), flush=True)
time.sleep(60)
"""


def test_it_ends_with_the_process_that_made_it(engine: Engine, sound: str) -> None:
    """Were it to live on, so would the address that it holds."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, sound], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        container = process.stdout.readline().strip().removeprefix("container:")
        try:
            assert engine.state(container)["Running"]
            process.kill()
            engine.api.wait(container, timeout=20)
            assert engine.state(container)["ExitCode"] == 0
        finally:
            engine.remove(container)


@pytest.mark.parametrize(("architecture", "runner"), [("amd64", []), ("arm64", ["qemu-aarch64-static"])])
def test_the_program(architecture: str, runner: list[str], tmp_path: Path) -> None:
    """It reads until there is nothing more to read."""
    path = tmp_path / "pause"
    path.write_bytes(pause.program(architecture))
    path.chmod(0o755)
    with subprocess.Popen([*runner, str(path)], stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(b"x" * 1000)
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_nobody_joins_one_that_is_not_left(judge: Judge, sound: str, client: Any) -> None:
    """Where a container could not be removed, what is in it must not meet the next image."""
    task = Task("one", sound, repo_path=None, pull="never")
    before = set(_pauses(client))
    assert judge.judge(task).verdict is Verdict.HEALTHY
    (first,) = set(_pauses(client)) - before
    stuck: list[str] = []
    remove = judge.engine.remove

    def fails_once(container_id: str) -> None:
        if container_id != first and not stuck:
            stuck.append(container_id)
            raise InfraError("it is stuck")
        remove(container_id)

    judge.engine.remove = fails_once  # type: ignore[method-assign]
    assert judge.judge(task).verdict is Verdict.HEALTHY
    assert judge.judge(task).verdict is Verdict.HEALTHY
    (second,) = set(_pauses(client)) - before
    assert second != first
    remove(stuck[0])


# Of those that are installed, the first: GNU's for this machine, GNU's for the other one, LLVM's for both.
ASSEMBLERS = {
    "amd64": (["x86_64-linux-gnu-as", "--64"], ["llvm-mc", "--triple=x86_64-linux-gnu", "--filetype=obj"]),
    "arm64": (["aarch64-linux-gnu-as"], ["llvm-mc", "--triple=aarch64-linux-gnu", "--filetype=obj"]),
}


@pytest.mark.parametrize("architecture", list(pause.CODE))
def test_the_machine_code_is_what_its_source_assembles_to(architecture: str, tmp_path: Path) -> None:
    source = Path(pause.__file__).with_name(f"pause_{architecture}.S")
    command = next((one for one in ASSEMBLERS[architecture] if shutil.which(one[0])), None)
    if command is None:
        pytest.skip(f"no assembler for {architecture}: install binutils or llvm")
    subprocess.run([*command, "-o", tmp_path / "pause.o", source], check=True, timeout=60)
    assert _text_of(tmp_path / "pause.o") == bytes.fromhex(pause.CODE[architecture][1])


def _text_of(path: Path) -> bytes:
    """The section `.text` of an ELF object."""
    data = path.read_bytes()
    table, size, count, names = *struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, table + number * size) for number in range(count)]
    strings = headers[names][4]
    (text,) = [
        data[header[4] : header[4] + header[5]]
        for header in headers
        if data[strings + header[0] : data.index(b"\0", strings + header[0])] == b".text"
    ]
    return text
