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
from taskgate.harness.base.errors import (
    CommandNotFound,
    CommandNotPermitted,
    CommandStopped,
    CommandTimeout,
    InfraError,
    ScriptFailed,
    UserNotFound,
    WorkdirNotFound,
)
from taskgate.harness.sandbox.execute import execute
from tests import engines
from tests.library import bring, running

ALIVE = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"
# Not with pkill, which an image need not have.
KILL = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in 'sleep {0} ') kill -9 ${{p#/proc/}} ;; esac; done"


@pytest.fixture(scope="module")
def container(library: Any, sound: str) -> Iterator[Any]:
    with running(library, sound) as started:
        yield started


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
    for _ in range(5):
        done = execute(container, "echo no >&2; exit 3", stdin=big, timeout=30)
        # Podman may lose what such a command prints at its end, but adds nothing of its own to it.
        assert done.exit_code == 3 and done.stderr in (b"no\n", b"")


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
    # The container and others in it live on.
    assert execute(container, ["echo", "alive"]).output == b"alive\n"


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


def test_a_missing_container_raises_an_infra_error(library: Any, sound: str) -> None:
    with running(library, sound) as container:
        timer = threading.Timer(1.0, lambda: container.remove(force=True))
        timer.start()
        with contextlib.suppress(InfraError):
            done = execute(container, ["sleep", "7001"])
            assert done.exit_code != 0
        timer.join()
        with pytest.raises(InfraError):
            execute(container, ["true"])


def test_without_a_shell_ended_is_false(library: Any, client: Any) -> None:
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


@pytest.mark.slow
def test_a_hanging_engine_raises_an_infra_error(client: Any, sound: str) -> None:
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


# Deadlines, whoever's the processes are.


def _left(container: Any) -> bytes:
    return execute(container, ALIVE, user="0").output


# The image's user and the command's. The combinations that differ in who may see and kill whom are for every day.
EVERY_DAY = {("", ""), ("", "nobody"), ("agent", ""), ("agent", "1234"), ("4321", "0")}
COMBINATIONS = [
    pytest.param(own, user, marks=() if (own, user) in EVERY_DAY else pytest.mark.slow)
    for own in ("", "agent", "4321")
    for user in ("", "agent", "nobody", "1234", "1234:4321", "0")
]


@pytest.mark.parametrize(("own", "user"), COMBINATIONS)
def test_a_deadline_holds_for_every_user(library: Any, sound: str, own: str, user: str) -> None:
    with running(library, sound, user=own) as container:
        done = execute(container, "sleep 4101 & (setsid sleep 4102 &); sleep 4103; :", user=user, timeout=1)
        assert done.stopped and done.ended and done.seconds < 10
        assert b"sleep" not in _left(container)


OTHERS = {
    "another user's daemon": "setpriv --reuid=1000 --regid=1000 --clear-groups setsid sleep 4201 & sleep 4202",
    "another user's orphan": "(setpriv --reuid=1000 --regid=1000 --clear-groups setsid sleep 4201 &); sleep 4202",
    "another user, changed environment": "env -i /usr/bin/setpriv --reuid=1000 --clear-groups /bin/sleep 4201",
    "no environment": "exec env -i sleep 4201",
    "an orphan without environment": "(setsid sh -c 'exec env -i sleep 4201' &); sleep 4202",
    "a name like a state": "cp /bin/sleep '/tmp/a) Z 1\n0 0' && '/tmp/a) Z 1\n0 0' 4201",
    "stopped": "sleep 4201 & kill -STOP $!; wait",
    "a main thread that has ended": 'exec python3 -c "import ctypes, threading, time\n'
    'threading.Thread(target=time.sleep, args=(4201,)).start(); ctypes.CDLL(None).pthread_exit(0)"',
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_deadline_finds_all_that_a_command_began(container: Any, kind: str) -> None:
    done = execute(container, OTHERS[kind], timeout=1)
    assert done.stopped and done.ended
    assert b"420" not in _left(container)


def test_a_command_goes_on_while_its_output_is_open(client: Any, sound: str) -> None:
    """On Docker. Podman ends the stream together with the first process."""
    with running(client, sound) as container:
        done = execute(container, "setsid sleep 4251 & exit", timeout=1)
        assert done.stopped and done.ended and b"4251" not in _left(container)


def test_what_nobody_can_attribute_is_reported(container: Any) -> None:
    """A daemon without any trace of its origin may be another command's: it is spared, and not called ended."""
    script = "(setsid sh -c 'exec env -i sleep 4301 </dev/null >/dev/null 2>&1' &); sleep 4302"
    done = execute(container, script, timeout=1)
    assert done.stopped and not done.ended
    assert b"4301" in _left(container) and b"4302" not in _left(container)
    assert execute(container, KILL.format(4301)).exit_code == 0


def test_a_deadline_spares_other_commands(container: Any) -> None:
    """Daemons that other commands left, and those that are still under way, of any user."""
    script = "(setsid sleep 4401 >/dev/null 2>&1 &)"
    waiting = threading.Thread(target=execute, args=(container, "sleep 4403"), kwargs={"user": "agent", "timeout": 8})

    def others() -> None:
        execute(container, script)
        waiting.start()

    timer = threading.Timer(0.5, others)
    timer.start()
    done = execute(container, "sleep 4402", user="nobody", timeout=3)
    timer.join()
    assert done.stopped and done.ended
    left = _left(container)
    assert b"4401" in left and b"4402" not in left and b"4403" in left
    waiting.join()
    assert b"4401" in _left(container) and b"4403" not in _left(container)
    assert execute(container, KILL.format(4401)).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        {"security_opt": ["no-new-privileges"], "user": "agent"},
        {"read_only": True, "user": "1234"},
        {"cap_drop": ["ALL"]},
        {"cap_drop": ["ALL"], "user": "agent", "security_opt": ["no-new-privileges"], "read_only": True},
        {"init": False, "user": "agent"},
    ],
    ids=["no new privileges", "read-only", "no capabilities", "all of it", "no init"],
)
def test_a_deadline_in_a_container_that_may_do_little(library: Any, sound: str, options: dict[str, Any]) -> None:
    with running(library, sound, **options) as container:
        for user in ("", "nobody"):
            done = execute(container, "(setsid sleep 4501 &); sleep 4502", user=user, timeout=1)
            assert done.stopped and done.ended and b"450" not in _left(container)


def test_a_command_that_prints_at_its_deadline(container: Any) -> None:
    """The engine does not see its end before its output is read."""
    for user in ("", "agent"):
        done = execute(container, "while :; do echo taskgate; done", user=user, timeout=1)
        assert done.stopped == "timed out after 1 s" and done.ended and done.seconds < 6
        assert done.output.startswith(b"taskgate\n")


def test_a_command_is_cancelled(container: Any) -> None:
    cancel = threading.Event()
    timer = threading.Timer(1.0, cancel.set)
    timer.start()
    done = execute(container, "echo begun; sleep 4601", user="agent", cancel=cancel)
    timer.join()
    assert done.stopped == "cancelled" and done.ended and done.output == b"begun\n" and done.seconds < 10
    assert b"4601" not in _left(container)


def test_stdin_from_a_file(container: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    with (tmp_path / "file").open("rb") as file:
        assert execute(container, ["wc", "-c"], stdin=file).output.split() == [b"3000000"]
    with (tmp_path / "file").open("rb") as file:
        assert len(execute(container, ["cat"], stdin=file, timeout=60).output) == 3_000_000


# Commands that can't be started.

STARTS: list[tuple[list[str], dict[str, str], type[Exception], type[Exception]]] = [
    (["no-such-command"], {}, CommandNotFound, FileNotFoundError),
    (["/no/such/command"], {}, CommandNotFound, FileNotFoundError),
    (["/etc/passwd"], {}, CommandNotPermitted, PermissionError),
    (["/etc"], {}, CommandNotPermitted, PermissionError),
    (["true"], {"user": "nonexistent"}, UserNotFound, LookupError),
    (["true"], {"user": "root:nonexistent"}, UserNotFound, LookupError),
    (["true"], {"workdir": "/no/such/folder"}, WorkdirNotFound, FileNotFoundError),
]


@pytest.mark.parametrize(("argv", "options", "kind", "builtin"), STARTS)
def test_what_can_not_be_started(
    container: Any, argv: list[str], options: dict[str, Any], kind: type[Exception], builtin: type[Exception]
) -> None:
    done = execute(container, argv, **options)
    assert type(done.start_error) is kind and isinstance(done.start_error, builtin)
    assert done.exit_code in (126, 127) and done.output == b""
    with pytest.raises(kind, match=next(iter(options.values()), argv[0]).rpartition(":")[2]):
        done.check()


def test_the_engines_words_never_get_lost(container: Any) -> None:
    """They may come together with the header of the engine's response."""
    for _ in range(30):
        done = execute(container, ["true"], user="nonexistent")
        assert isinstance(done.start_error, UserNotFound) and "nonexistent" in str(done.start_error)


@pytest.mark.parametrize("code", [125, 126, 127])
@pytest.mark.parametrize(
    "words",
    [
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "x": executable file not found '
        "in $PATH: unknown\r",
        'Error: runc: exec failed: unable to start container process: exec: "x": executable file not found in $PATH: '
        "OCI runtime attempted to invoke a command that was not found",
        "unable to find user nonexistent: no matching entries in passwd file\r",
    ],
)
def test_no_command_can_imitate_that(container: Any, words: str, code: int) -> None:
    for stream in "12":
        done = execute(container, ["sh", "-c", f'printf "%s\n" "$1" >&{stream}; exit {code}', "sh", words])
        assert done.start_error is None and done.exit_code == code and done.output == f"{words}\n".encode()


def test_a_result_is_checked(container: Any) -> None:
    assert execute(container, "echo fine").check().output == b"fine\n"
    with pytest.raises(ScriptFailed, match="exit code 3") as failed:
        execute(container, "echo why; exit 3").check()
    assert (failed.value.exit_code, failed.value.output) == (3, "why\n")
    with pytest.raises(TimeoutError, match="timed out after 1 s") as late:
        execute(container, "echo begun; sleep 9", timeout=1).check()
    assert isinstance(late.value, CommandTimeout) and late.value.output == "begun\n"
    with pytest.raises(CommandStopped, match="printed more than 10 bytes"):
        execute(container, "yes", limit=10).check()
