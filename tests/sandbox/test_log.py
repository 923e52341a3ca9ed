"""A log file a thread, and what containers print in it."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgate.harness.base.errors import ScriptFailed
from taskgate.harness.sandbox.execute import execute
from taskgate.harness.sandbox.log import get_thread_logger, safe_log, setup_logger
from taskgate.harness.sandbox.output import log_container_output, read_container_output
from tests.library import running


def _lines(path: Path) -> list[str]:
    return [line.split(" - ", 3)[3] for line in path.read_text().splitlines()]


def test_a_log_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = setup_logger(tmp_path / "deep/er/task.log")
    assert logger is get_thread_logger() and logger.level == logging.INFO and not logger.propagate
    logger.debug("not this")
    logger.info("one %s", 1)
    safe_log("100 % of it", logging.WARNING)
    safe_log("\ud800 é")
    text = (tmp_path / "deep/er/task.log").read_text()
    stamp, thread, level, said = text.splitlines()[0].split(" - ")
    assert (thread, level, said) == (threading.current_thread().name, "INFO", "one 1") and "," in stamp
    assert _lines(tmp_path / "deep/er/task.log") == ["one 1", "100 % of it", "\\ud800 é"]
    assert not caplog.records, "nothing reaches the root logger"
    # A second one takes its place, and the first file gets no more of it.
    setup_logger(tmp_path / "two.log")
    safe_log("two")
    assert _lines(tmp_path / "two.log") == ["two"] and len(_lines(tmp_path / "deep/er/task.log")) == 3


def test_logging_knows_it_while_it_is_used(tmp_path: Path) -> None:
    logger = setup_logger(tmp_path / "one.log")
    assert logging.getLogger(logger.name) is logger
    logging.getLogger(logger.name).info("by its name")
    assert _lines(tmp_path / "one.log") == ["by its name"]
    other = setup_logger(tmp_path / "one.log")
    assert other.name != logger.name and logging.getLogger(other.name) is other
    gc.collect()
    assert logger.name not in logging.Logger.manager.loggerDict
    logger.info("held")
    assert _lines(tmp_path / "one.log")[-1] == "held"


def test_threads_have_their_own(tmp_path: Path) -> None:
    begin = threading.Barrier(20)

    def one(number: int) -> None:
        assert get_thread_logger() is None
        setup_logger(tmp_path / f"{number}.log")
        begin.wait()
        for line in range(50):
            safe_log(f"{number} {line}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(20):
        assert _lines(tmp_path / f"{number}.log") == [f"{number} {line}" for line in range(50)]


def test_one_log_shared_by_threads_has_whole_lines(tmp_path: Path) -> None:
    logger = setup_logger(tmp_path / "shared.log")

    def write() -> None:
        for _ in range(50):
            logger.info("x" * 3000)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _lines(tmp_path / "shared.log") == ["x" * 3000] * 400


def test_ten_thousand_loggers_leak_nothing(tmp_path: Path) -> None:
    before, known = len(list(Path("/proc/self/fd").iterdir())), len(logging.Logger.manager.loggerDict)
    for number in range(9_000):
        setup_logger(tmp_path / f"{number % 10}.log").info("x")
    for number in range(1_000):
        thread = threading.Thread(target=lambda number=number: setup_logger(tmp_path / f"t{number % 10}.log").info("x"))
        thread.start()
        thread.join()
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert len(logging.Logger.manager.loggerDict) == known


def test_without_a_log_it_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=safe_log, args=("hello \ud800",))
    thread.start()
    thread.join()
    assert capsys.readouterr().err == "INFO - hello \\ud800\n"


# What containers print.


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    setup_logger(tmp_path / "out.log")
    yield tmp_path / "out.log"
    setup_logger(os.devnull)


def _result(output: Any, code: int | None = 0) -> Any:
    return SimpleNamespace(exit_code=code, output=output)


SNOW = "snow ☃ man\nend".encode()


@pytest.mark.parametrize(
    "output",
    [
        SNOW,
        "snow ☃ man\nend",
        [SNOW[:6], SNOW[6:7], SNOW[7:]],
        iter([SNOW[i : i + 1] for i in range(len(SNOW))]),
        (SNOW, None),
        iter([(SNOW[:6], None), (SNOW[6:], None)]),
    ],
    ids=["bytes", "text", "pieces", "bytes one by one", "a pair", "pairs"],
)
def test_every_form_of_output(log: Path, output: Any) -> None:
    assert read_container_output(_result(output), verbose=True) == "snow ☃ man\nend"
    assert _lines(log) == ["snow ☃ man", "end"]


def test_nothing_and_what_is_no_text(log: Path) -> None:
    assert read_container_output(_result(None)) == ""
    assert read_container_output((0, b"\xff\x00\x1b[31mred\r\n"), verbose=True) == "\ufffd\x00\x1b[31mred\r\n"
    assert _lines(log) == ["\ufffd\\x00\\x1b[31mred"]


@pytest.mark.parametrize("verbose", [True, False])
def test_a_failure_is_raised(log: Path, verbose: bool) -> None:
    with pytest.raises(ScriptFailed, match="Script failed with exit code 3") as caught:
        log_container_output(_result(b"why\n", 3), verbose=verbose)
    assert caught.value.exit_code == 3 and caught.value.output == "why\n"
    assert _lines(log) == (["why", "Script failed with exit code 3"] if verbose else [])


def test_logging_returns_nothing(log: Path) -> None:
    assert log_container_output(_result(b"out\n")) is None  # type: ignore[func-returns-value]
    assert log_container_output(_result(b"not logged\n"), verbose=False) is None  # type: ignore[func-returns-value]
    assert _lines(log) == ["out"]


def test_a_line_without_an_end_is_cut(log: Path) -> None:
    log_container_output(_result(iter([b"x" * 1000] * 5000)))
    assert max(map(len, _lines(log))) <= 64 * 1024


@given(st.binary(max_size=200), st.integers(1, 7))
def test_pieces_make_no_difference(data: bytes, size: int) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    setup_logger(os.devnull)
    assert read_container_output(_result(pieces)) == read_container_output(_result(data))


def test_what_the_sdk_returns(library: Any, sound: str, log: Path) -> None:
    with running(library, sound) as container:
        assert read_container_output(container.exec_run("echo one")) == "one\n"
        assert read_container_output(container.exec_run(["sh", "-c", "echo a; echo b >&2"], demux=True)) == "a\nb\n"
        assert read_container_output(execute(container, "echo two")) == "two\n"
        with pytest.raises(ScriptFailed) as caught:
            log_container_output(container.exec_run(["sh", "-c", "echo no; exit 4"]))
        assert caught.value.exit_code == 4
        # A streamed one: its status is known only at the end. The SDK loses what arrives together with the response's
        # header, hence the pause.
        streamed = container.exec_run(["sh", "-c", "sleep 1; echo late; exit 5"], stream=True)
        with pytest.raises(ScriptFailed) as caught:
            log_container_output(streamed)
        assert caught.value.exit_code == 5 and caught.value.output == "late\n"
