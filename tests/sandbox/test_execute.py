"""Commands in a container: what they give, and that a deadline ends them. On Docker and on Podman."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from examples import images
from taskgate.harness.base.errors import InfraError
from taskgate.harness.sandbox.execute import execute
from tests import engines
from tests.library import bring, running

ALIVE = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"


@pytest.fixture(scope="module")
def container(library: Any, sound: str) -> Iterator[Any]:
    with running(library, sound) as made:
        yield made


def test_what_a_command_gives(container: Any) -> None:
    done = execute(container, "echo out; echo err >&2; exit 3")
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n") and done.stopped is None
    assert sorted(done.output.splitlines()) == [b"err", b"out"]
    assert execute(container, ["echo", "a b", "$HOME", ""]).output == b"a b $HOME \n"
    assert execute(container, ["printf", "\\377\\000x"]).output == b"\xff\0x"
    assert execute(container, ["true"]).output == b""


def test_exit_codes(container: Any) -> None:
    assert [execute(container, f"exit {code}").exit_code for code in (0, 1, 2, 126, 255)] == [0, 1, 2, 126, 255]
    assert execute(container, ["no-such-command"]).exit_code in (126, 127)
    assert execute(container, "kill -9 $$").exit_code == 137
    assert execute(container, "kill -15 $$").exit_code == 143


def test_stdin(container: Any) -> None:
    assert execute(container, ["cat"], stdin="é\0x").output == "é\0x".encode()
    assert execute(container, ["cat"], stdin=b"").output == b""
    big = b"x" * 5_000_000
    assert execute(container, ["wc", "-c"], stdin=big).output.split() == [b"5000000"]
    # Both at once, more than any pipe holds.
    assert execute(container, ["cat"], stdin=big, timeout=60).output == big
    # One that does not want it.
    assert execute(container, ["true"], stdin=big, timeout=30).exit_code == 0


def test_user_environment_and_folder(container: Any) -> None:
    assert execute(container, ["id", "-u"], user="1234").output == b"1234\n"
    assert execute(container, ["pwd"], workdir="/tmp").output == b"/tmp\n"
    given = {"A": "1 2", "B": "é=\n'x'"}
    assert execute(container, 'printf "%s|%s" "$A" "$B"', environment=given).output.decode() == "1 2|é=\n'x'"


def test_a_deadline_ends_the_whole_tree(container: Any) -> None:
    script = (
        "echo begun; trap '' TERM INT HUP\n"
        "sleep 4001 & (sleep 4002 &) ; setsid sleep 4003 & setsid sh -c 'setsid sleep 4004 & exit' &\n"
        "(setsid sh -c 'exec env -i sleep 4005' &)\n"
        "sleep 4006"
    )
    done = execute(container, script, timeout=2)
    assert done.stopped == "timed out after 2 s" and done.exit_code == 137 and done.ended
    assert done.output == b"begun\n"
    left = execute(container, ALIVE).output
    for number in (4001, 4002, 4003, 4004, 4006):
        assert str(number).encode() not in left
    # The container and others in it live on. Podman 4.3 now and then loses the output of what ends at once.
    assert any(execute(container, ["echo", "alive"]).output == b"alive\n" for _ in range(5))


def test_a_deadline_spares_what_is_not_the_commands(container: Any) -> None:
    other = container.exec_run(["sleep", "5001"], detach=True)
    assert other is not None
    assert execute(container, ["sleep", "5002"], timeout=1).stopped
    left = execute(container, ALIVE).output
    assert b"5001" in left and b"5002" not in left


def test_one_that_forks_for_ever(library: Any, sound: str) -> None:
    with running(library, sound, pids_limit=200) as container:
        script = "f() { f & f & sleep 6001; }; f"
        done = execute(container, ["/bin/sh", "-c", script], timeout=2)
        # On a host that has little room left it may come to nothing by itself.
        assert done.stopped or b"Cannot fork" in done.output
        if done.ended:
            assert b"6001" not in execute(container, ALIVE).output


def test_a_flood_is_cut(container: Any) -> None:
    done = execute(container, ["yes", "taskgate"], limit=100_000, timeout=60)
    assert done.stopped == "printed more than 100,000 bytes" and len(done.output) == 100_000
    assert execute(container, "pgrep yes || ! command -v pgrep").exit_code in (0, 1)
    assert b"yes taskgate" not in execute(container, ALIVE).output


def test_a_container_that_is_gone_is_told(library: Any, sound: str) -> None:
    with running(library, sound) as container:
        timer = threading.Timer(1.0, lambda: container.remove(force=True))
        timer.start()
        with contextlib.suppress(InfraError):
            done = execute(container, ["sleep", "7001"])
            assert done.exit_code != 0
        timer.join()
        with pytest.raises(InfraError):
            execute(container, ["true"])


def test_without_a_shell_it_says_that_it_could_not_end_it(library: Any, client: Any) -> None:
    program = Path("/bin/busybox").read_bytes()
    image = images.load(client, "taskgate-test/no-shell-at-all:1", {"sleep": program}, "amd64", {"sleep": 0o755})
    bring(client, library, image)
    with running(library, image, entrypoint=["/sleep", "9000"]) as container:
        done = execute(container, ["/sleep", "8001"], timeout=1)
        assert done.stopped and not done.ended


def test_twenty_threads_at_once(container: Any) -> None:
    said: dict[int, bytes] = {}

    def one(number: int) -> None:
        said[number] = execute(container, f"echo {number}; cat", stdin=str(number), timeout=60).output

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: f"{number}\n{number}".encode() for number in range(20)}


def test_an_engine_that_hangs_is_told(client: Any, sound: str) -> None:
    with engines.dockerd() as daemon:
        there = docker.DockerClient(base_url=daemon.url, version="auto", timeout=60)
        bring(client, there, sound)
        there.close()
        impatient = docker.DockerClient(base_url=daemon.url, version="auto", timeout=5)
        assert daemon._process
        with running(impatient, sound, network_mode="none") as container:
            timer = threading.Timer(1.0, daemon._process.send_signal, [signal.SIGSTOP])
            timer.start()
            try:
                with pytest.raises(InfraError):
                    execute(container, ["sleep", "600"], timeout=3)
            finally:
                timer.join()
                daemon._process.send_signal(signal.SIGCONT)
        impatient.close()
