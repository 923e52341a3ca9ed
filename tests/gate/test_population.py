"""What fails alike in nearly every image of a run is said to be common to all, and is not held against the images."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.harness.gate import population
from taskgate.harness.gate.population import common_failures, normalized
from taskgate.harness.gate.verdict import Outcome, Record, Verdict, finding
from taskgate.harness.tasks.task import Agent, Task
from tests import running
from tests.conftest import Gate
from tests.running import TASKGATE

GLIBC = "the agent's command ends with status 1: version `GLIBC_2.38' not found"


def record(
    task_id: str, check: str | None = None, reason: str = "", *, digest: str | None = "", **fields: Any
) -> Record:
    """Healthy, or broken by this check; the checks before it passed."""
    verdict = Verdict.BROKEN if check else Verdict.HEALTHY
    digest = f"sha256:{task_id}" if digest == "" else digest
    made = Record(task_id, f"repo/{task_id}:1", digest, None, verdict, check=check, reason=reason or None, **fields)
    names = ["image_exists", "workdir", "agent_start", "git_repo", "user", "required"]
    for name in names:
        failed = name == check
        made.findings.append(finding(name, Outcome.FAIL if failed else Outcome.PASS, reason if failed else None, 0.0))
    return made


def tasks(*ids: str, **fields: Any) -> dict[str, Task]:
    return {task_id: Task(task_id, f"repo/{task_id}:1", **fields) for task_id in ids}


def mixed(failing: int, healthy: int, check: str = "agent_start", reason: str = GLIBC) -> list[Record]:
    bad = [record(f"bad{number}", check, reason) for number in range(failing)]
    return [*bad, *(record(f"good{number}") for number in range(healthy))]


@pytest.mark.parametrize(
    ("failing", "healthy", "common"),
    [
        (1, 0, False),
        (2, 0, False),
        (3, 0, True),
        (3, 1, False),
        (9, 1, True),
        (18, 2, True),
        (17, 3, False),
        (90, 10, True),
    ],
)
def test_how_many_are_nearly_all(failing: int, healthy: int, common: bool) -> None:
    records = mixed(failing, healthy)
    found = common_failures(records, tasks(*(one.task_id for one in records), agent=Agent(command=("agent",))))
    assert bool(found) is common
    if common:
        (failure,) = found
        assert (failure.failed, failure.ran, failure.field) == (failing, failing + healthy, None)
        assert len(failure.task_ids) == failing


def test_tags_of_one_image_count_once() -> None:
    same = [record(f"t{number}", "agent_start", GLIBC, digest="sha256:1") for number in range(50)]
    assert not common_failures(same, {})


def test_other_reasons_are_other_failures() -> None:
    reasons = ["no module named a", "no module named b", "killed", "status one", "crashed"]
    assert not common_failures([record(f"t{n}", "agent_start", text) for n, text in enumerate(reasons)], {})


@pytest.mark.parametrize(
    "reason",
    [
        "no such image: repo/{task}:1: manifest unknown",
        "{task} is missing",
        "container 3f2a9c81be{n}0 died after 1{n}.5 s",
        "HEAD is 0123456789abcdef0123456789abcdef0123456{n}",
        "can't write /tmp/tmp{task}/x",
        "segmentation fault at 0x7f{n}00",
    ],
)
def test_names_and_numbers_make_no_difference(reason: str) -> None:
    records = [record(f"t{n}", "agent_start", reason.format(task=f"t{n}", n=n)) for n in range(4)]
    assert len({normalized(str(one.reason), one) for one in records}) == 1
    assert len(common_failures(records, {})) == 1


@pytest.mark.parametrize(
    ("check", "reason", "fields", "field"),
    [
        ("workdir", "/workspace does not exist", {}, "repo_path"),
        ("workdir", "/w does not exist", {"workdir": "/w"}, "workdir"),
        ("git_repo", "/workspace is not a git repository", {}, "repo_path"),
        ("user", "the image has no user or group 'x'", {"user": "x"}, "user"),
        ("agent_start", "importing agnet fails: ModuleNotFoundError: No module named 'agnet'",
         {"agent": Agent(module="agnet.main")}, "agent.module"),
        ("required", "the command cargo is not on PATH", {}, "require"),
    ],
)  # fmt: skip
def test_what_the_manifest_claims(check: str, reason: str, fields: dict[str, Any], field: str) -> None:
    """Of a claim that is wrong, more than half are enough."""
    records = mixed(4, 3, check, reason)
    known = tasks(*(one.task_id for one in records), **fields)
    (failure,) = common_failures(records, known)
    assert failure.field == field and f"`{field}`" in "\n".join(population.banner([failure], trusted=False))
    assert not common_failures(mixed(3, 3, check, reason), known)


@pytest.mark.parametrize(
    ("check", "reason", "fields"),
    [
        ("user", "the image has no user or group 'x'", {}),
        ("workdir", "/w can't be written by the agent's user", {}),
        ("agent_start", "importing agent fails: No module named 'numpy'", {"agent": Agent(module="agent")}),
    ],
)
def test_what_the_images_say(check: str, reason: str, fields: dict[str, Any]) -> None:
    """The image's own user, or a dependency of the agent: no claim of the manifest."""
    records = mixed(4, 3, check, reason)
    assert not common_failures(records, tasks(*(one.task_id for one in records), **fields))


def test_a_later_check_fails_in_all() -> None:
    """Some are broken by something else first; where the agent was tried, it failed in all of them."""
    records = mixed(6, 0)
    for number in range(3):
        other = record(f"other{number}", "git_repo", f"reason {'abc'[number]}")
        other.findings = [one for one in other.findings if one.check != "agent_start"]
        other.findings.append(finding("agent_start", Outcome.FAIL, GLIBC, 0.0))
        records.append(other)
    (failure,) = common_failures(records, {})
    assert (failure.failed, failure.ran) == (9, 9)
    assert set(failure.task_ids) == {f"bad{number}" for number in range(6)}


def test_a_check_that_few_tasks_have() -> None:
    """Three of a hundred are not nearly all, though it ran in no other."""
    records = mixed(3, 97, "required", "the command cargo is not on PATH")
    for one in records[3:]:
        one.findings = [item for item in one.findings if item.check != "required"]
    assert not common_failures(records, {})


def test_what_the_list_says_is_no_news() -> None:
    records = mixed(9, 0)
    for one in records:
        one.cached, one.findings = True, []
    assert not common_failures(records, {})


@pytest.mark.parametrize(("absent", "healthy", "common"), [(3, 0, True), (4, 3, True), (3, 3, False), (2, 0, False)])
def test_images_that_may_not_be_pulled(absent: int, healthy: int, common: bool) -> None:
    """They are infra; said once is enough."""
    records = [record(f"good{number}") for number in range(healthy)]
    for number in range(absent):
        reason = f"repo/a{number}:1 is not on this host, and `pull: never` forbids pulling it"
        records.append(Record(f"a{number}", f"repo/a{number}:1", None, None, Verdict.INFRA, reason=reason))
    found = common_failures(records, tasks(*(one.task_id for one in records), pull="never"))
    assert [failure.field for failure in found] == (["pull"] if common else [])
    assert not common_failures(records, tasks(*(one.task_id for one in records), pull="missing"))


@pytest.fixture(scope="module")
def three(client: Any, sound: str) -> list[str]:
    """Three images that differ."""
    return [
        images.build(client, f"taskgate-test/alike-{number}:1", f"FROM {sound}\nRUN echo {number} >/mark")
        for number in range(3)
    ]


def test_a_run_in_which_all_fail_alike(gate: Gate, three: list[str], sound: str) -> None:
    """`repo_path` is the default's, and no image has it. Then the same with the images to blame."""
    rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number, image in enumerate(three))
    text = f"version: 1\ndefaults: {{pull: never}}\ntasks:\n{rows}"
    run = gate(text)
    assert run.status == 10, run.output
    summary = run.output.partition(" taskgate ")[2]
    head = "PROBABLY A MISTAKE IN THE MANIFEST: `repo_path` does not hold in 3 of 3 images"
    assert summary.splitlines()[1] == head, run.output
    assert summary.count(head) == 1 and "--trust-common-failures" in summary
    assert not run.listed and run.verdicts["counts"]["broken"] == 3
    # From the cache it is the same.
    assert gate(text).status == 10
    trusted = gate(text, "--trust-common-failures")
    assert trusted.status == 1 and trusted.listed == {"t0", "t1", "t2"}, trusted.output
    # Now that they are listed, there is no more to say.
    assert gate(text).status == 1


def test_a_merge_in_which_all_fail_alike(gate: Gate, three: list[str], tmp_path: Path) -> None:
    """No shard of one image can know; the whole does."""
    rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number, image in enumerate(three))
    text = f"version: 1\ndefaults: {{pull: never}}\ntasks:\n{rows}"
    for number in range(1, 4):
        gate(text, f"--shard={number}/3", f"--out=part{number}", "--skip-list=parts.txt")

    def merge(*args: str) -> subprocess.CompletedProcess[str]:
        command = [*TASKGATE, "merge", "part1", "part2", "part3", "--images=m.yaml", "--out=all", "--skip-list=all.txt"]
        return subprocess.run([*command, *args], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    done = merge()
    assert done.returncode == 10 and done.stdout.startswith("PROBABLY A MISTAKE IN THE MANIFEST"), done
    assert not (tmp_path / "all.txt").exists()
    assert merge("--trust-common-failures").returncode == 1
    assert (tmp_path / "all.txt").read_text().splitlines()[1::2] == ["t0", "t1", "t2"]


def test_a_run_in_which_two_fail_alike(gate: Gate, three: list[str]) -> None:
    rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number, image in enumerate(three[:2]))
    run = gate(f"version: 1\ndefaults: {{pull: never}}\ntasks:\n{rows}")
    assert run.status == 1 and run.listed == {"t0", "t1"}, run.output


def test_a_run_of_agents_in_which_all_fail_alike(three: list[str], tmp_path: Path) -> None:
    rows = "".join(f"- {{id: t{number}, image: '{image}'}}\n" for number, image in enumerate(three))
    text = f"version: 1\ndefaults: {{pull: never, agent: {{run: ['true']}}}}\ntasks:\n{rows}"
    run = running.Run(tmp_path)
    listed = tmp_path / "list.txt"
    ran = run(text, f"--skip-list={listed}")
    assert ran.status == 10 and "PROBABLY A MISTAKE IN THE MANIFEST: `repo_path`" in ran.output, ran.output
    assert not listed.exists()
    run(text, f"--skip-list={listed}", "--trust-common-failures")
    assert listed.read_text().splitlines()[1::2] == ["t0", "t1", "t2"]
