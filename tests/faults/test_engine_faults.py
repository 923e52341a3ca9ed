"""The engine fails in every way that it can: no image is judged by that, and nothing of ours stays on it."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests import authorization, engines
from tests.faults import certificates, scene
from tests.faults.scene import HOPELESS, LONG, Scene

pytestmark = pytest.mark.slow

Make = Callable[..., Scene]
SLOW = "sandbox.sh('sleep 0.4')"


@LONG
def test_no_fault(make: Make) -> None:
    """The measure for all others: without a fault every image is judged as it is."""
    make().recovers()


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=LONG)], ids=["plain", "xdist"])
def test_an_engine_that_starts_after_the_gate(make: Make, daemon: engines.Daemon, workers: tuple[str, ...]) -> None:
    """An engine that comes while a run waits for it costs no image its verdict."""
    here = make()
    here.begin()
    daemon.stop()
    process = here.start(*workers)
    try:
        time.sleep(2)
        assert process.poll() is None
    finally:
        daemon.start()
    here.holds(here.end(process), 1)
    here.recovers()


def test_an_engine_killed_and_started_again_at_random(
    make: Make, daemon: engines.Daemon, rows: list[str], long: bool
) -> None:
    """Whenever an engine dies and comes back, the images that were under way are judged as they are."""
    here, seed = make(rows=rows if long else rows[:3]), random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    here.check(SLOW)
    for _ in range(12 if long else 1):
        process = here.start("--recheck", "-n", "2")
        time.sleep(chance.uniform(0.5, 4 if long else 2))
        daemon.kill()
        time.sleep(chance.uniform(0, 1.5))
        daemon.start()
        here.holds(here.end(process), 1)
    here.recovers("--recheck")


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=LONG)], ids=["plain", "xdist"])
@pytest.mark.parametrize("judged", [0, 2])
def test_an_engine_that_accepts_and_never_answers(
    make: Make, daemon: engines.Daemon, rows: list[str], judged: int, workers: tuple[str, ...]
) -> None:
    """An engine that hangs, from the start or from the second image on, makes no image broken; nobody waits on."""
    here = make(rows=rows[:4] if judged else rows[:2])
    here.check(SLOW)
    here.begin()
    process = here.start(*HOPELESS, *workers) if judged else None
    if process:
        here.wait_until_judged(process, judged)
    daemon.signal(signal.SIGSTOP)
    try:
        ended = here.end(process or here.start(*HOPELESS, *workers))
    finally:
        daemon.signal(signal.SIGCONT)
    here.holds(ended, 10, clean=False)
    assert "did not answer in time" in ended.output
    here.recovers()


@pytest.fixture(scope="module")
def small_disk() -> Iterator[tuple[engines.Daemon, list[str]]]:
    with engines.dockerd("--bridge=none", size="400m") as made:
        yield made, scene.small(made.url)


@pytest.mark.parametrize("left", [0, *(pytest.param(left, marks=LONG) for left in (4096, 20480, 65536, 1 << 20))])
def test_a_full_disk(make: Make, small_disk: tuple[engines.Daemon, list[str]], left: int) -> None:
    """An engine without room, be it for a container or for what a check writes there, makes no image broken."""
    daemon, rows = small_disk
    here = make(url=daemon.url, rows=rows)
    here.begin()
    filler = daemon.folder / "data/filler"
    try:
        _fill(filler, left)
        ended = here.run(*HOPELESS)
        here.holds(ended, 10)
    finally:
        filler.unlink()
    assert {verdict for task, verdict in here.verdicts().items() if task.startswith("sound")} == {"infra"}
    here.recovers()


def _fill(path: Path, left: int) -> None:
    """Leave so many bytes on the file system of `path`."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - left)


def test_no_address_is_left(make: Make) -> None:
    """Networks that exhausted the address pools, and a bridge whose addresses are all taken, make no image broken."""
    pools = ("--default-address-pool", "base=10.231.8.0/29,size=30", "--bip=10.231.0.1/30")
    with engines.dockerd(*pools) as daemon:
        client = docker.DockerClient(base_url=daemon.url)
        rows = [row.replace("image:", "network: bridge, image:") for row in scene.small(daemon.url)[:2]]
        with pytest.raises(docker.errors.APIError, match="address pool"):
            for number in range(9):
                client.networks.create(f"n{number}")
        here = make(url=daemon.url, rows=rows)
        other = client.containers.run("small:1", ["sh", "-c", "sleep 600"], detach=True)
        here.holds(here.run(*HOPELESS), 10)
        assert {one for task, one in here.verdicts().items() if task.startswith("sound")} == {"infra"}
        other.remove(force=True)
        client.close()
        here.begin()
        here.recovers()


@pytest.mark.parametrize("seconds", [0.03, pytest.param(1.0, marks=LONG)])
def test_a_slow_engine(make: Make, daemon: engines.Daemon, rows: list[str], tmp_path: Path, seconds: float) -> None:
    """Answers that take their time change no verdict."""
    with authorization.between(_socket(daemon), tmp_path / "slow.sock", delay=seconds) as url:
        here = make(url=url, rows=rows[:4])
        here.recovers()


def test_an_engine_too_old(make: Make, daemon: engines.Daemon, tmp_path: Path) -> None:
    """An engine whose API is older than what the SDK speaks is told as that, and no image asks twice."""
    asked = []

    def old(line: bytes) -> bytes | None:
        asked.append(line)
        about = {"Version": "1.5.0", "ApiVersion": "1.17", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        return authorization.reply("200 OK", about) if b"/version" in line else None

    here = make()
    with authorization.between(_socket(daemon), tmp_path / "old.sock", old) as url:
        ended = here.run(*HOPELESS, url=url)
    here.holds(ended, 10)
    assert "too old" in ended.output and "no engine answers" not in ended.output
    # The run itself asks for what to clear away, at its start and its end, and for what runtimes to make.
    assert len(asked) <= len(here.verdicts()) + 3
    here.recovers()


def test_an_engine_that_hangs_is_waited_for_once(
    make: Make, daemon: engines.Daemon, rows: list[str], tmp_path: Path
) -> None:
    """What never answers costs the first image its tries, and every other image one."""
    asked, over = [], threading.Event()

    def silent(line: bytes) -> bytes | None:
        asked.append(line)
        over.wait()
        return None

    here = make(rows=rows[:4])
    here.begin()
    with authorization.between(_socket(daemon), tmp_path / "silent.sock", silent) as url:
        ended = here.run(*HOPELESS, url=url)
        over.set()
    here.holds(ended, 10)
    assert len(asked) <= len(here.verdicts()) + 1 + 3


@LONG
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_the_images_of_an_engine_that_hangs_go_to_another(make: Make, workers: tuple[str, ...]) -> None:
    """Of two engines one stops to answer in the middle: the other one judges its images."""
    here = make()
    here.check(SLOW)
    with engines.dockerd() as other:
        scene.small(other.url)
        baseline = scene.holdings(other.url)
        process = here.start("-p", "impatient", *workers, url=[other.url, here.url])
        here.wait_until_judged(process)
        other.signal(signal.SIGSTOP)
        try:
            ended = here.end(process)
        finally:
            other.signal(signal.SIGCONT)
        here.holds(ended, 1)
        here.run("--recheck", url=[other.url])
        assert scene.holdings(other.url) == baseline
    here.recovers()


def test_an_engine_behind_tls(make: Make, tmp_path: Path) -> None:
    """A wrong authority, or a wrong certificate of ours, is told as that; with the right ones all are judged."""
    right, wrong = certificates.make(tmp_path / "right"), certificates.make(tmp_path / "wrong")
    mixed = shutil.copytree(right, tmp_path / "mixed")
    for name in ("cert.pem", "key.pem"):
        shutil.copy(wrong / name, mixed / name)
    tls = (
        "--tlsverify",
        f"--tlscacert={right}/ca.pem",
        f"--tlscert={right}/server.pem",
        f"--tlskey={right}/server.key",
    )
    with engines.dockerd("--bridge=none", "--host=tcp://127.0.0.1:2376", *tls) as daemon:
        here = make(url=daemon.url, rows=scene.small(daemon.url)[:2])
        # Its loopback interface is its own.
        inside = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net"]
        for folder, told in ((wrong, "TLS failed"), (mixed, "TLS failed"), (tmp_path / "none", "lacks ca.pem")):
            # Where all of the web is checked by another authority, the engine's own counts all the same.
            env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder), "REQUESTS_CA_BUNDLE": f"{wrong}/ca.pem"}
            ended = here.run(*HOPELESS, prefix=inside, env=env, url="tcp://127.0.0.1:2376")
            here.holds(ended, 4 if told.startswith("lacks") else 10)
            assert told in ended.output
        ended = here.run(prefix=inside, env={**env, "DOCKER_CERT_PATH": str(right)}, url="tcp://127.0.0.1:2376")
        here.holds(ended, 1)
        here.recovers()


def test_a_user_who_may_not_use_the_engine(make: Make, daemon: engines.Daemon, tmp_path: Path) -> None:
    """A socket that is closed to the user is told as that, with what to do; so it is where no engine was named."""
    here = make()
    # May read everything, as others' files of this test's, but write only what is their own.
    reads = "+dac_read_search"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={reads}",
              f"--ambient-caps={reads}", f"--bounding-set=-all,{reads}", "--"]  # fmt: skip
    subprocess.run(["chown", "-R", "nobody", tmp_path], check=True)
    for url in (here.url, None):
        ended = here.run(*HOPELESS, prefix=nobody, url=url or [], env={"HOME": str(tmp_path)})
        here.holds(ended, 10)
        assert "ermission denied" in ended.output and "group" in ended.output
    here.recovers()


def _socket(daemon: engines.Daemon) -> Path:
    return Path(daemon.url.removeprefix("unix://"))
