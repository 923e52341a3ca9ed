"""Where a fault happens: a folder with a manifest of sound and broken images, and what must hold after any fault."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_list import open_skip_list

HERE = Path(__file__).parent
HEAD = (
    "version: 1\ndefaults: {pull: never, network: none, repo_path: null, workdir: /tmp, python: null,"
    " checks: {network: off, git_available: off}}\ntasks:\n"
)
MARK = "TASKGATE_FAULT"
# Cases that a day's tests have no time for.
LONG = pytest.mark.long
HOPELESS = ("-p", "hasty")
# Entries of before that no run of a scene has to do with.
KEPT = {"by-hand": Entry("by-hand"), "elsewhere": Entry("elsewhere", check="tmp", reason="full", image="x:1")}
# A sound image that was broken once; only a verdict on what it is now may take it off.
MENDED = Entry("sound-0", check="tmp", reason="no /tmp", image="small:0", digest="sha256:0")


@dataclass(frozen=True)
class Ended:
    """What a run left behind it: status (negative: the signal that ended it) and words."""

    status: int
    output: str


class Scene:
    """Runs the gate on `url`, whose images and containers are nobody else's, and knows what may be left of it.

    A task whose id begins with `sound` has a sound image, one with `broken` a broken one; nothing may be said of
    `lost` ones (a fault of the registry's hides what they are).
    """

    def __init__(self, folder: Path, url: str, rows: Sequence[str], *, skip_list: str = "list/skip.txt") -> None:
        self.folder, self.url = folder, url
        self.skip_list = skip_list if "://" in skip_list else str(folder / skip_list)
        self._mark = secrets.token_hex(8)
        self.allowed = {"sound": {"healthy", "infra"}, "broken": {"broken", "infra"}, "lost": {"infra"}}
        (folder / "tmp").mkdir()
        (folder / "m.yaml").write_text(HEAD + "".join(f"- {row}\n" for row in rows))
        if "://" not in skip_list:
            Path(self.skip_list).parent.mkdir(exist_ok=True)
            Path(self.skip_list).write_text("# Ours.\nby-hand\n")
        # A database may be another test's as well.
        open_skip_list(self.skip_list).update([], list(self.entries()))
        open_skip_list(self.skip_list).update([*KEPT.values(), MENDED], [])
        self.before = self.entries()
        self.baseline: dict[str, set[str]] | None = None

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def entries(self) -> dict[str, Entry]:
        return open_skip_list(self.skip_list).read()

    def check(self, body: str) -> None:
        """A check of this scene's own, by the name `deadly`; `body` has `sandbox`."""
        (self.folder / "mine").mkdir(exist_ok=True)
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        text = "import os, pathlib, signal, time\nfrom taskgate.checks._registry import check\n"
        text += f"@check(after='shell')\ndef deadly(sandbox):\n    '''A check of these tests.'''\n{lines}"
        (self.folder / "mine/deadly.py").write_text(text)

    def begin(self) -> None:
        """What the engine has now is not of ours. The first run begins with it, if the engine answers then."""
        self.baseline = self._others()

    def start(
        self,
        *args: str,
        prefix: Sequence[str] = (),
        env: dict[str, str] | None = None,
        url: str | Sequence[str] | None = None,
    ) -> subprocess.Popen[str]:
        """A run of the gate, under way; `url`: the engine by another name, several, or none at all."""
        if self.baseline is None:
            self.begin()
        command = [*prefix, sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--images=m.yaml"]
        command += [f"--skip-list={self.skip_list}", "--out=out"]
        urls = [url] if isinstance(url, str) else [self.url] if url is None else url
        command += [f"--docker-host={one}" for one in urls]
        command += ["--check-path=mine"] if (self.folder / "mine").exists() else []
        # Another user could not write down what is covered.
        strange = ("PYTEST_", "GITHUB_", "COV_CORE", *(("COVERAGE_",) if prefix else ()))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        own = {
            MARK: self._mark,
            "TMPDIR": f"{self.folder}/tmp",
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.Popen(
            [*command, *args], cwd=self.folder, env={**clean, **own, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], seconds: float = 300) -> Ended:
        """Wait for it, and for every process that it began."""
        output = process.communicate(timeout=seconds)[0]
        wait_for(lambda: not self.processes(), f"processes of ours live on: {self.processes()}")
        return Ended(process.returncode, output)

    def run(self, *args: str, **how: Any) -> Ended:
        return self.end(self.start(*args, **how))

    def processes(self) -> list[int]:
        """The ids of all processes that a run of this scene began and that are there still."""
        mark = f"{MARK}={self._mark}".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _content(path)]

    def wait_until_judged(self, process: subprocess.Popen[str], count: int = 1) -> None:
        """Until the run has said so many verdicts."""
        wait_for(lambda: len(self.journal()) >= count or process.poll() is not None, "the run does not get as far")

    def journal(self) -> list[dict[str, Any]]:
        path = self.out / "journal.jsonl"
        # A torn last line is what a kill may leave.
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def verdicts(self) -> dict[str, str]:
        """By id, of the last run; from the journal where that came to no end."""
        path = self.out / "verdicts.json"
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"under_way": ""}
        found = self.journal() if "under_way" in document else document["tasks"]
        return {one["task_id"]: one["verdict"] for one in found}

    def holds(self, ended: Ended, *statuses: int, clean: bool = True, words: bool = True) -> None:
        """What must hold after any fault. `clean`: nothing of ours is left; False where we were killed, or the engine
        can't be asked: then the next start has to see to it. `words`: no traceback is shown; False where a signal may
        have come at any point of Python's and pytest's own."""
        assert ended.status in statuses, ended.output
        said = [word for word in ("Traceback", "INTERNALERROR", "Error: ") if word in ended.output]
        assert not (words and said), ended.output
        self._no_wrong_verdict(ended)
        self._no_entry_lost_or_invented(ended)
        if clean:
            self._nothing_left()

    def recovers(self, *args: str) -> None:
        """The next run, without any fault, judges every image as it is, and leaves nothing of those before it."""
        ended = self.run(*args)
        self.holds(ended, 1)
        verdicts = self.verdicts()
        assert all(one in ("healthy", "broken") for one in verdicts.values()), ended.output
        broken = {task_id for task_id, one in verdicts.items() if one == "broken"}
        assert set(self.entries()) == broken | {one for one in self.before if verdicts.get(one) != "healthy"}

    def _no_wrong_verdict(self, ended: Ended) -> None:
        path = self.out / "verdicts.json"
        said = self.journal() + (json.loads(path.read_text())["tasks"] if path.exists() else [])
        for one in said:
            kind = one["task_id"].partition("-")[0]
            assert one["verdict"] in self.allowed[kind], (one, ended.output)

    def _no_entry_lost_or_invented(self, ended: Ended) -> None:
        now, said = self.entries(), {(one["task_id"], one["verdict"]) for one in self.journal()}
        # A journal on a full disk tells nothing.
        full = "journal.jsonl: No space left" in ended.output
        for task_id, entry in self.before.items():
            gone = task_id not in now and ((task_id, "healthy") in said or full) and not entry.by_hand
            assert gone or (task_id in now and now[task_id].known() == entry.known()), (task_id, ended.output)
        for task_id in now.keys() - self.before.keys():
            right = (task_id, "broken") in said or (full and task_id.startswith("broken"))
            assert right, (task_id, ended.output)
        if ended.status in (0, 1):
            verdicts = self.verdicts()
            missing = {task_id for task_id, one in verdicts.items() if one == "broken"} - now.keys()
            assert not missing, (missing, ended.output)

    def _others(self) -> dict[str, set[str]]:
        """What the engine has, but for the manifest's own images: what a run pulled is there to be used again."""
        found, manifest = holdings(self.url), (self.folder / "m.yaml").read_text()
        return {**found, "images": {image for image in found["images"] if image.partition(" ")[0] not in manifest}}

    def _nothing_left(self) -> None:
        assert self._others() == self.baseline
        assert self.processes() == []
        # What pytest itself makes is its own affair.
        found = [path.relative_to(self.folder) for path in self.folder.rglob("*")]
        ours = [path for path in found if not re.search(r"pytest_cache|pytest-of-|\.lock$", str(path))]
        left = [path for path in ours if path.name.startswith(".") or path.parts[0] == "tmp"]
        assert left == [Path("tmp")], left


def small(url: str) -> list[str]:
    """The rows of a manifest of four sound images and three broken ones, which are brought to the engine."""
    client = docker.DockerClient(base_url=url, version="auto", timeout=60)
    busybox, arch = Path("/bin/busybox").read_bytes(), client.version()["Arch"]
    images.load(client, "small:1", {"bin/sh": busybox, "tmp/.keep": b""}, arch, {"bin/sh": 0o755})
    images.load(client, "shell-less:1", {"bin/sh.txt": b"", "tmp/.keep": b""}, arch)
    client.close()
    rows = [f"{{id: sound-{number}, image: 'small:1'}}" for number in range(4)]
    rows.insert(1, "{id: broken-0, image: 'small:1', require: {files: [/nowhere]}}")
    rows.insert(3, "{id: broken-1, image: 'shell-less:1'}")
    return [*rows, "{id: broken-2, image: 'None:1'}"]


def holdings(url: str) -> dict[str, set[str]]:
    """What an engine has: containers, volumes, networks, and images by name and id."""
    api = docker.APIClient(base_url=url, version="auto", timeout=60)
    try:
        return {
            "containers": {one["Id"] for one in api.containers(all=True)},
            "volumes": {one["Name"] for one in api.volumes()["Volumes"] or ()},
            "networks": {one["Name"] for one in api.networks()},
            "images": {f"{name} {one['Id']}" for one in api.images() for name in one.get("RepoTags") or ["none"]},
        }
    finally:
        api.close()


def wait_for(done: Callable[[], object], otherwise: str, seconds: float = 90) -> None:
    """Until `done`; a safety net, and no measure of speed."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
