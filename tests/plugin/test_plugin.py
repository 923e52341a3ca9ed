"""`pytest --images=…` as a user runs it: verdicts, files, exit status, and pytest's own options."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from examples import images
from taskgate.checks._registry import ORDER
from taskgate.harness.plugin.case_ids import SUITE
from tests.conftest import Gate

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}}\ntasks:\n"


@pytest.fixture(scope="module")
def lost(client: Any, sound: str) -> str:
    """An image without git."""
    return images.build(client, "taskgate-test/lost:1", f"FROM {sound}\nRUN rm /usr/bin/git")


@pytest.fixture
def three(sound: str, lost: str) -> str:
    images = {"good-django": sound, "bad": lost, "good-2": sound}
    return HEAD + "".join(f"- {{id: {task_id}, image: '{image}'}}\n" for task_id, image in images.items())


@pytest.mark.parametrize(
    "workers", [(), ("-n", "2"), ("-n", "2", "--dist", "worksteal")], ids=["plain", "load", "steal"]
)
def test_a_run(gate: Gate, three: str, workers: tuple[str, ...]) -> None:
    run = gate(three, *workers)
    assert run.status == 1, run.output
    assert run.verdicts["counts"] == {"healthy": 2, "broken": 1, "incompatible": 0, "infra": 0}
    assert run.verdicts["complete"] is True and run.verdicts["unchecked"] == []
    assert [task["task_id"] for task in run.verdicts["tasks"]] == ["good-django", "bad", "good-2"]
    bad = run.tasks["bad"]
    assert set(bad) == {
        "task_id", "image", "digest", "platform", "verdict", "check", "reason", "hint", "findings", "seconds",
        "cached", "started",
    }  # fmt: skip
    assert bad["verdict"] == "broken" and bad["check"] == "git_available" and bad["digest"].startswith("sha256:")
    assert all(set(f) == {"check", "outcome", "reason", "seconds"} for f in bad["findings"])
    assert run.listed == {"bad"}
    journal = [json.loads(line) for line in (run.out / "journal.jsonl").read_text().splitlines()]
    assert sorted(line["task_id"] for line in journal) == ["bad", "good-2", "good-django"]
    assert "git_available: there is no git on PATH" in run.output


def test_what_is_known_is_not_started_again(gate: Gate, three: str, client: Any) -> None:
    first = gate(three)
    again = gate(three, "-n", "2")
    assert again.status == 1 and all(task["cached"] for task in again.tasks.values())
    assert again.tasks["bad"]["reason"] == first.tasks["bad"]["reason"]
    assert "3 known from before" in again.output
    fresh = gate(three, "--recheck")
    assert not any(task["cached"] for task in fresh.tasks.values())
    old = gate(three, "--max-age=0s")
    assert not any(task["cached"] for task in old.tasks.values())
    # Other settings of a task are another question.
    other = gate(three.replace("module: agent", "module: json"))
    assert not any(task["cached"] for task in other.tasks.values())


def test_the_skip_list_alone_is_enough(gate: Gate, three: str) -> None:
    run = gate(three)
    (run.out / "cache.jsonl").unlink()
    again = gate(three)
    assert {name for name, task in again.tasks.items() if task["cached"]} == {"bad"}
    assert again.tasks["bad"]["check"] == "git_available" and again.listed == {"bad"}


def test_a_rebuilt_image_is_checked_again_by_itself(gate: Gate, sound: str, lost: str, client: Any) -> None:
    text = f"{HEAD}- {{id: one, image: 'taskgate-test/rebuilt:1'}}\n"
    assert client.images.get(lost).tag("taskgate-test/rebuilt", "1")
    assert gate(text).listed == {"one"}
    assert client.images.get(sound).tag("taskgate-test/rebuilt", "1")
    run = gate(text)
    assert run.status == 0 and run.tasks["one"]["verdict"] == "healthy"
    assert run.listed == set()


def test_an_entry_by_hand_is_honoured_and_kept(gate: Gate, three: str, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    path = tmp_path / "config/known_broken_images.txt"
    path.write_text("# because\ngood-2\n")
    run = gate(three)
    assert run.tasks["good-2"]["verdict"] == "broken" and run.tasks["good-2"]["check"] == "skip_list"
    assert gate(three, "--recheck").tasks["good-2"]["verdict"] == "healthy"
    assert path.read_text().startswith("# because\ngood-2\n")


def test_max_broken(gate: Gate, three: str) -> None:
    assert gate(three, "--max-broken=1").status == 0
    assert gate(three, "--max-broken=34%").status == 0
    assert gate(three, "--max-broken=33%").status == 1


def test_a_selection_is_judged_alone(gate: Gate, three: str) -> None:
    run = gate(three, "-k", "django")
    assert run.status == 0 and run.verdicts["unchecked"] == ["bad", "good-2"] and not run.verdicts["complete"]
    whole = gate(three)
    assert whole.listed == {"bad"}
    # A run of something else takes nothing off the list.
    assert gate(three, "-k", "django").listed == {"bad"}


def test_a_part_of_the_manifest_replaces_its_own_records_only(gate: Gate, three: str, lost: str) -> None:
    """Judging one image again must not cost the verdicts on all others."""
    full = gate(three).verdicts
    run = gate(three, "-k", "bad", "--recheck")
    document = run.verdicts
    assert [task["task_id"] for task in document["tasks"]] == ["good-django", "bad", "good-2"]
    assert document["complete"] and document["counts"] == full["counts"] and not run.tasks["bad"]["cached"]
    assert [task for task in document["tasks"] if task["task_id"] != "bad"] == [
        task for task in full["tasks"] if task["task_id"] != "bad"
    ]
    (partial,) = document["partial_runs"]
    last = json.loads((run.out / "journal.jsonl").read_text().splitlines()[-1])
    assert partial["tasks"] == ["bad"] and partial["run"] == last["run"] and partial["finished"] > last["started"]
    # A task that is no longer in the manifest goes.
    fewer = gate(three.replace(f"- {{id: bad, image: '{lost}'}}\n", ""), "-k", "django")
    assert set(fewer.tasks) == {"good-django", "good-2"} and len(fewer.verdicts["partial_runs"]) == 2
    assert "partial_runs" not in gate(three).verdicts


def test_a_part_after_a_killed_run_keeps_what_its_journal_has(gate: Gate, three: str) -> None:
    run = gate(three)
    path = run.out / "verdicts.json"
    killed = json.loads((run.out / "journal.jsonl").read_text().splitlines()[0])["run"]
    path.write_text(json.dumps({"version": 1, "under_way": killed, "complete": False, "tasks": []}))
    assert set(gate(three, "-k", "django").tasks) == {"good-django", "bad", "good-2"}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_a_path_does_not_bypass_the_gate(gate: Gate, three: str, tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_own.py").write_text("def test_own(): pass\n")
    run = gate(three, *workers, "tests")
    assert run.status == 1 and set(run.tasks) == {"good-django", "bad", "good-2"}, run.output
    assert "1 failed, 3 passed" in run.output
    # The suite itself may be named, with a case or without.
    for suite in (str(SUITE), "test_taskgate.py"):
        one = gate(three, *workers, f"{suite}::test_image[good-2]")
        assert one.status == 0 and "1 passed" in one.output, one.output
    # Its node ids are the same wherever it is installed.
    listed = gate(three, "--collect-only", "-q").output.splitlines()
    assert "test_taskgate.py::test_image[good-2]" in listed, listed


def test_no_image_judged_is_never_a_success(gate: Gate, three: str, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    run = gate(three, "-k", "own", "test_own.py")
    assert run.status == 10 and "gate: exit 10: no image was judged" in run.output, run.output
    assert gate(three, "-k", "nothing").status == 5
    assert gate(three, "--setup-only").status == 10


def test_the_last_line_says_status_and_reason(gate: Gate, three: str, sound: str) -> None:
    def last(*args: str, text: str = three) -> str:
        return gate(text, *args).output.rstrip().splitlines()[-1]

    assert last() == "gate: exit 1: 1 broken"
    assert last("--max-broken=1") == "gate: exit 0: 1 broken, 1 allowed"
    assert last("--max-broken=20%", "-n", "2") == "gate: exit 1: 1 broken, 20% allowed"
    assert last("-k", "good") == "gate: exit 0: 2 tasks healthy"
    infra = f"{HEAD}- {{id: one, image: '{sound}', network: there-is-no-such-network}}\n"
    assert last(text=infra) == "gate: exit 10: 1 task without a verdict (1 infra)"
    assert last("--maxfail=1", text=three.replace("good-django", "z").replace("id: z", "id: z, timeout: 5")) in (
        "gate: exit 10: 1 task without a verdict (1 not judged)",
    )
    assert "gate: exit" not in gate(three, "--collect-only").output


def test_the_summary_counts_tasks_and_images(gate: Gate, three: str) -> None:
    run = gate(three, "--checks=image_exists")
    assert run.status == 0
    assert "3 tasks on 2 images: 3 passed image_exists (not judged otherwise)" in run.output, run.output
    assert "3 tasks on 2 images: 2 healthy, 1 broken" in gate(three, "--recheck").output


def test_without_the_junit_plugin(gate: Gate, three: str) -> None:
    run = gate(three, "-p", "no:junitxml")
    assert run.status == 1 and "INTERNALERROR" not in run.output, run.output


def test_workers_of_any_name_share_the_engines(gate: Gate, three: str) -> None:
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    args = [f"--docker-host={engine}", f"--docker-host={engine}"]
    run = gate(three, "--dist=load", "--tx=popen//id=left", "--tx=popen//id=right", *args)
    assert run.status == 1 and "INTERNALERROR" not in run.output, run.output


@pytest.mark.parametrize("option", ["--out=plain.txt/below", "--html=plain.txt/r.html", "--junitxml=plain.txt/j.xml"])
def test_a_result_that_cannot_be_written_is_noticed_first(gate: Gate, three: str, tmp_path: Path, option: str) -> None:
    (tmp_path / "plain.txt").write_text("")
    run = gate(three, option)
    assert run.status == 4 and f"{option.partition('=')[0]}: " in run.output and "can't be written" in run.output
    assert "Traceback" not in run.output and not (run.out / "journal.jsonl").exists(), run.output


def test_last_failed(gate: Gate, three: str) -> None:
    gate(three)
    run = gate(three, "--lf")
    assert run.status == 1 and "1 image: 0 healthy, 1 broken" in run.output, run.output


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["plain", "xdist"])
def test_maxfail_leaves_some_without_a_verdict(gate: Gate, sound: str, lost: str, workers: tuple[str, ...]) -> None:
    rows = "".join(f"- {{id: t{n}, image: '{lost}'}}\n" for n in range(8))
    run = gate(HEAD + rows, "--maxfail=1", *workers)
    assert run.status == 10, run.output
    assert run.verdicts["unchecked"] and not run.verdicts["complete"]


def test_collect_only_touches_nothing(gate: Gate, three: str) -> None:
    gate(three)
    before = {path: path.read_bytes() for path in (gate(three).folder).rglob("*.json*")}
    run = gate(three, "--collect-only", "-q")
    assert "test_image[good-django]" in run.output and run.status == 0
    assert {path: path.read_bytes() for path in run.folder.rglob("*.json*")} == before


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_junit(gate: Gate, three: str, workers: tuple[str, ...]) -> None:
    run = gate(three + "- {id: none, image: x/Y}\n", "--junitxml=j.xml", *workers)
    suite = next(ElementTree.parse(run.folder / "j.xml").getroot().iter("testsuite"))
    assert suite.attrib["tests"] == "4" and suite.attrib["failures"] == "2"
    cases = {case.attrib["name"]: case for case in suite.iter("testcase")}
    failure = cases["test_image[bad]"].find("failure")
    assert failure is not None and "no git on PATH" in (failure.text or "")


def test_without_the_html_plugin(gate: Gate, three: str) -> None:
    assert gate(three, "-p", "no:html").status == 1


ODD = ["a@b:c/d e", "名前-ü", "x" * 300, "a::b[c]", "-k", "$(touch pwned)", "<img src=x onerror=1>", "100%", "a,b;c&d"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_odd_ids_survive(gate: Gate, lost: str, workers: tuple[str, ...]) -> None:
    rows = "".join(f"- {json.dumps({'id': task_id, 'image': lost})}\n" for task_id in ODD)
    run = gate(HEAD + rows, "--html=r.html", "--junitxml=j.xml", *workers)
    assert run.status == 1, run.output
    assert set(run.tasks) == set(ODD) == run.listed
    one = gate(HEAD + rows, "--lf")
    assert len(one.tasks) == len(ODD)
    assert not (run.folder / "pwned").exists()


def test_infra_is_no_ones_fault(gate: Gate, sound: str) -> None:
    run = gate(f"{HEAD}- {{id: one, image: '{sound}', network: there-is-no-such-network}}\n")
    assert run.status == 10 and run.tasks["one"]["verdict"] == "infra" and run.listed == set()
    assert "1 error" in run.output and "Traceback" not in run.output


def test_no_engine_at_all(gate: Gate, three: str) -> None:
    run = gate(three, "--docker-host=unix:///no/such.sock", "-k", "django")
    assert run.status == 10 and run.tasks["good-django"]["verdict"] == "infra" and run.listed == set()
    assert "Traceback" not in run.output


def test_a_dead_engine_is_not_waited_for(gate: Gate, three: str) -> None:
    """pytest's own time, which does not count the start of Python."""
    run = gate(three, "--docker-host=unix:///no/such.sock")
    assert run.status == 10 and len(run.tasks) == 3, run.output
    seconds = re.search(r"3 errors in ([\d.]+)s", run.output)
    assert seconds and float(seconds[1]) < 6, run.output


def test_another_architecture_is_skipped(gate: Gate, client: Any) -> None:
    foreign = "arm64" if client.version()["Arch"] == "amd64" else "amd64"
    tag = images.load(client, "taskgate-test/foreign:1", {"bin/sh": b"\x7fELF"}, foreign, {"bin/sh": 0o755})
    text = f"{HEAD}- {{id: a, image: '{tag}'}}\n- {{id: b, image: '{tag}', platform: linux/{foreign}}}\n"
    run = gate(text)
    assert run.status == 10 and {t["verdict"] for t in run.tasks.values()} == {"incompatible"}, run.output
    assert run.listed == set() and "2 skipped" in run.output


MISTAKES = [
    (["--max-broken=x"], "--max-broken"),
    (["--max-broken=101%"], "--max-broken"),
    (["--checks=nonsense"], "nonsense"),
    (["--checks=,"], "--checks: names no check"),
    (["--checks="], "--checks: names no check"),
    (["--shard=3/2"], "--shard"),
    (["--max-age=soon"], "--max-age"),
    (["--check-path=none"], "--check-path"),
    (["--skip-list=mysql://x"], "mysql"),
]


@pytest.mark.parametrize(("args", "said"), MISTAKES, ids=lambda value: str(value))
def test_mistakes_are_told(gate: Gate, three: str, args: list[str], said: str) -> None:
    run = gate(three, *args)
    assert run.status == 4 and said in run.output and "Traceback" not in run.output
    assert not run.out.exists()


def test_a_bad_manifest(gate: Gate) -> None:
    run = gate("version: 1\ntasks:\n- {id: a, image: x, chekcs: {}}\n", "-n", "2")
    assert run.status == 4 and "m.yaml:3: tasks[0].chekcs" in run.output and "Traceback" not in run.output
    run = gate("version: 1\ntasks:\n- {id: a, image: x, checks: {no_such: off}}\n")
    assert run.status == 4 and "no_such" in run.output
    run = gate(None, "--images=none.yaml")
    assert run.status == 4 and "none.yaml" in run.output


def test_a_task_that_nothing_is_asked_of(gate: Gate, three: str) -> None:
    """It would be healthy whatever its image is."""
    off = f"{{{', '.join(f'{name}: off' for name in ORDER)}}}"
    for text in (
        three.replace("{id: bad,", f"{{id: bad, checks: {off},"),
        three.replace("defaults: {", f"defaults: {{checks: {off}, "),
    ):
        run = gate(text)
        assert run.status == 4 and "every check is off" in run.output and not run.out.exists(), run.output
        assert "Traceback" not in run.output
    run = gate(three.replace("{id: bad,", "{id: bad, checks: {image_exists: off},"), "--checks=image_exists")
    assert run.status == 4 and "bad.checks: every check is off" in run.output, run.output


def test_checks_that_there_are_not(gate: Gate, tmp_path: Path) -> None:
    """File, line and field, as of every mistake in a manifest; those of one's own are there."""
    (tmp_path / "mine").mkdir()
    own = "from taskgate.checks._registry import check\n@check()\ndef own(sandbox):\n    'Nothing.'\n"
    (tmp_path / "mine/own.py").write_text(own)
    text = "version: 1\ntasks:\n- a:1\n- id: b\n  image: x:1\n  checks:\n    own: warn\n    git_futur: fail\n"
    run = gate(text, "--check-path=mine")
    assert run.status == 4 and "m.yaml:8: tasks[1].checks.git_futur: unknown check" in run.output
    assert "did you mean git_future?" in run.output and not run.out.exists()
    run = gate("version: 1\ndefaults:\n  checks: {tmpp: off}\ntasks: [x:1]\n")
    assert run.status == 4 and "m.yaml:3: defaults.checks.tmpp: unknown check" in run.output, run.output


def test_checks_of_ones_own(gate: Gate, three: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/lucky.py").write_text(
        "from taskgate.checks._registry import check\n"
        "@check(after='container_start')\n"
        "def lucky(sandbox):\n"
        "    '''The image has luck.\n\n    Buy some.\n    '''\n"
        "    if sandbox.sh('test -e /luck').code:\n"
        "        yield 'no luck'\n"
    )
    run = gate(three, "--check-path=mine", "--checks=lucky", "-n", "2")
    assert run.status == 1 and {task["check"] for task in run.tasks.values()} == {"lucky"}
    assert run.tasks["bad"]["hint"] == "Buy some."
    assert [f["check"] for f in run.tasks["bad"]["findings"]] == [
        "image_exists",
        "platform",
        "container_start",
        "lucky",
    ]


def test_a_check_that_fails_itself_blames_no_image(gate: Gate, three: str, tmp_path: Path) -> None:
    (tmp_path / "mine.d").mkdir()
    (tmp_path / "mine.d/buggy.py").write_text(
        "from taskgate.checks._registry import check\n@check()\ndef buggy(sandbox):\n    yield str(1 / 0)\n"
    )
    run = gate(three, "--check-path=mine.d", "-k", "django")
    assert run.status == 10 and "ZeroDivisionError" in run.tasks["good-django"]["reason"] and run.listed == set()
    # Its author sees file and line, and the traceback from there on.
    assert f"({tmp_path}/mine.d/buggy.py:4)" in run.tasks["good-django"]["reason"]
    assert f'|   File "{tmp_path}/mine.d/buggy.py", line 4, in buggy' in run.output
    assert "judge.py" not in run.output, run.output


def test_shards_are_a_partition(gate: Gate, sound: str) -> None:
    rows = "".join(f"- {{id: t{n}, image: '{sound}'}}\n" for n in range(12))
    seen: list[str] = []
    for number in (1, 2, 3):
        run = gate(HEAD + rows, f"--shard={number}/3", "--collect-only", "-q")
        seen += [line for line in run.output.splitlines() if "test_image[" in line]
    assert len(seen) == 12 == len(set(seen))


def test_the_github_summary(gate: Gate, three: str, tmp_path: Path) -> None:
    gate(three, env={"GITHUB_STEP_SUMMARY": str(tmp_path / "step.md")})
    text = (tmp_path / "step.md").read_text()
    assert "| 2 | 1 | 0 | 0 | 0 |" in text and "there is no git on PATH" in text


def test_a_space_between_option_and_file(gate: Gate, three: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(three)
    assert gate(None, "--images", "m.yaml").status == 1
    assert gate(None, "--images", "m.yaml", "-n", "2").status == 1


def test_a_full_disk_loses_no_verdict_and_fails_closed(gate: Gate, sound: str, tmp_path: Path) -> None:
    """/dev/full stands for a disk without room: the journal can't be written, the rest can."""
    out = tmp_path / "results/preflight"
    out.mkdir(parents=True)
    (out / "journal.jsonl").symlink_to("/dev/full")
    run = gate(f"{HEAD}- {{id: one, image: '{sound}'}}\n")
    assert run.status == 10 and "journal.jsonl: No space left on device" in run.output, run.output
    assert run.tasks["one"]["verdict"] == "healthy" and "Traceback" not in run.output


def test_the_judging_is_the_tests_own_time(gate: Gate, sound: str) -> None:
    """Not a fixture's: --durations shows it, and rerun plugins repeat it."""
    text = f"version: 1\ndefaults: {{pull: never, repo_path: null}}\ntasks:\n- {{id: one, image: '{sound}'}}\n"
    run = gate(text, "--durations=0", "-vv", "--recheck")
    calls = re.findall(r"([\d.]+)s call .*test_image\[one\]", run.output)
    assert calls and float(calls[0]) >= run.tasks["one"]["seconds"] * 0.9, run.output


def test_what_pytest_tells_of_cases_that_went_well(gate: Gate, sound: str) -> None:
    """Little is kept of them, and all that is asked for is there."""
    text = f"version: 1\ndefaults: {{pull: never, repo_path: null}}\ntasks:\n- {{id: one, image: '{sound}'}}\n"
    assert "1 passed" in gate(text).output
    timed = gate(text, "--durations=1", "-vv").output
    assert re.search(r"s call .*test_image\[one\]", timed), timed
    assert re.search(r"^PASSED .*test_image\[one\]", gate(text, "-rA").output, re.M)
    junit = gate(text, "--junitxml=j.xml")
    assert 'name="taskgate"' in (junit.folder / "j.xml").read_text()
