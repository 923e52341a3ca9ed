"""The shell in a container: framing, deadlines, floods, forgeries. On real containers, of Debian and of BusyBox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import images
from taskgate.harness.sandbox.sandbox import CheckStopped, Sandbox
from taskgate.harness.sandbox.shell import Excerpt
from taskgate.harness.tasks.task import Task


@pytest.fixture(scope="module", params=["debian", "busybox"])
def image(request: pytest.FixtureRequest, client: Any, sound: str) -> str:
    if request.param == "debian":
        return sound
    busybox = Path("/bin/busybox").read_bytes()
    links = {f"bin/{name}": busybox for name in ("sh", "sleep", "seq", "yes", "cat")}
    return images.load(
        client, "taskgate-test/bare-busybox:1", links, client.version()["Arch"], dict.fromkeys(links, 0o755)
    )


@pytest.fixture
def sandbox(engine: Any, image: str) -> Iterator[Sandbox]:
    made = Sandbox(engine, Task("one", image, pull="never"), "tests")
    yield made
    made.close()


def test_commands_one_after_another(sandbox: Sandbox) -> None:
    assert sandbox.sh("echo one; exit 3").code == 3
    assert sandbox.sh("echo two; echo three >&2").lines == ["two", "three"]
    assert not sandbox.sh("cat").out, "a command has no stdin"
    assert sandbox.sh("printf no-newline").out == "no-newline"
    # What one command changes in its shell, the next one does not see.
    sandbox.sh("cd /bin; x=1; exec 1>&-")
    assert sandbox.sh('pwd; echo "${x-unset}"').lines == ["/", "unset"]


UNTIL_GONE = """
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  all=$(for process in /proc/[0-9]*; do cat "$process/cmdline" 2>/dev/null; done | tr -d '\\000')
  case $all in *"$1"*) sleep 0.2 ;; *) exit 0 ;; esac
done
exit 1
"""


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=3))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_arguments_arrive_as_they_are(sandbox: Sandbox, args: list[str]) -> None:
    assert sandbox.sh('for a; do printf "%s\\001" "$a"; done', *args).out == "".join(f"{arg}\1" for arg in args)


def test_a_nul_byte_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="NUL"):
        sandbox.sh("echo", "a\0b")


def test_a_deadline_ends_the_whole_tree_and_spares_the_rest(sandbox: Sandbox) -> None:
    sandbox.sh("true")
    sandbox.begin(1.0)
    with pytest.raises(CheckStopped, match="timed out after 1 s") as stopped:
        sandbox.sh("echo begun; (sleep 1000 & sleep 1001) & trap '' TERM INT; sleep 1002")
    assert stopped.value.needs_confirmation and "begun" in stopped.value.result.out
    sandbox.begin(10.0)
    left = sandbox.sh("for p in /proc/[0-9]*; do cat $p/cmdline 2>/dev/null; echo; done").out
    assert "sleep" not in left and sandbox.sh("echo alive").out == "alive\n"


def test_what_a_command_leaves_running_is_ended(sandbox: Sandbox) -> None:
    sandbox.sh("sleep 1000 & (sleep 1001 &) ; echo gone")
    # Killed processes run no further instruction, but a busy kernel may list them for a moment.
    assert sandbox.sh(UNTIL_GONE, "sleep100").code == 0


LEAVERS = {
    "root": None,
    "a named user": "agent",
    "an arbitrary uid": "4321",
}
LIST = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null"


@pytest.mark.parametrize("user", LEAVERS)
def test_nothing_survives_a_check_of_any_user(engine: Any, sound: str, user: str) -> None:
    """Daemons, changed environments, and set-user-ID programs, at the command's own end and at its deadline."""
    sandbox = Sandbox(engine, Task("one", sound, pull="never", user=LEAVERS[user]), "tests")
    begin = (
        "(setsid sh -c 'exec env -i sleep 4001' &); (sleep 4002 &); su -c 'sleep 4003' root </dev/null & sleep 4004 &"
    )
    try:
        for _ in range(5):
            sandbox.begin(10.0)
            sandbox.sh(begin)
            assert "sleep" not in sandbox.sh(LIST).out
        sandbox.begin(1.0)
        with pytest.raises(CheckStopped, match="timed out"):
            sandbox.sh(f"{begin} sleep 4005")
        sandbox.begin(10.0)
        assert "sleep" not in sandbox.sh(LIST).out
    finally:
        sandbox.close()


def test_a_slow_end_is_waited_for(engine: Any, sound: str) -> None:
    """A process with much memory takes its time to die: the next command never sees it."""
    sandbox = Sandbox(engine, Task("one", sound, pull="never"), "tests")
    try:
        for _ in range(3):
            sandbox.begin(20.0)
            sandbox.sh(
                "python3 -c 'import time; x = bytearray(400 << 20); x[::4096] = x[::4096]; time.sleep(99)' & sleep 2"
            )
            assert "python3" not in sandbox.sh(LIST).out
    finally:
        sandbox.close()


@pytest.mark.slow
def test_a_command_that_kills_the_shell_costs_itself_alone(sandbox: Sandbox) -> None:
    sandbox.begin(10.0)
    with pytest.raises(CheckStopped):
        # A second USR1 to process 1 is harmless; what ends it is a stop that it can't refuse from outside.
        sandbox.sh("kill -STOP $$; kill -9 $$; sleep 1000")
    sandbox.begin(10.0)
    assert sandbox.sh("echo alive").out == "alive\n"


def test_a_flood_is_cut_short(sandbox: Sandbox) -> None:
    with pytest.raises(CheckStopped, match="printed more than 64 MiB") as stopped:
        sandbox.sh("yes taskgate")
    assert len(stopped.value.result.out) < 300_000
    assert sandbox.sh("echo alive").out == "alive\n"


def test_long_output_keeps_its_beginning_and_its_end(sandbox: Sandbox) -> None:
    out = sandbox.sh("seq 1 2000000").out
    assert out.startswith("1\n2\n") and out.endswith("1999999\n2000000\n") and "bytes left out" in out


def test_output_that_looks_like_a_frame_is_output(sandbox: Sandbox) -> None:
    """All but the nonce, which a command does not get to see."""
    sandbox.sh("true")
    assert sandbox._container is not None and sandbox._container._shell is not None
    nonce = sandbox._container._shell._nonce
    seen = sandbox.sh("set; cat /proc/self/environ /proc/1/environ /proc/1/cmdline 2>/dev/null; true").out
    assert nonce not in seen and "tg_nonce" not in seen
    number = sandbox._container._shell._count + 1
    forged = sandbox.sh(f"printf '\\n%032d {number} 0\\n' 0; printf '\\n{number} 0\\n'; exit 5")
    assert forged.code == 5 and f" {number} 0" in forged.out


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30).map(lambda half: 2 * half))
def test_an_excerpt_is_bounded_and_says_what_it_left_out(chunks: list[bytes], keep: int) -> None:
    excerpt, whole = Excerpt(keep), b"".join(chunks)
    for chunk in chunks:
        excerpt.add(chunk)
    assert excerpt.size == len(whole)
    kept = excerpt._head + excerpt._tail
    assert len(kept) <= 2 * keep and whole.startswith(excerpt._head) and whole.endswith(excerpt._tail)
    if len(whole) <= keep:
        assert excerpt.text() == whole.decode("utf-8", "replace")
