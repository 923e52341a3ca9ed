"""A driver: a program of this host that works on a task through the task's server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.runner import driver_guard
from taskgate.harness.runner.labelled_log import LabelledLog
from taskgate.harness.sandbox.log_file import LogFile

RECORD = "driver.json"
STREAM = 1
CHUNK_BYTES = 64 * 1024
END_SECONDS = 20.0
# psutil computes a process's start from the machine's, which follows the clock.
SAME_SECONDS = 2.0
INTERPRETERS = re.compile(r"(python[\d.]*|sh|bash|dash|zsh|node|ruby|perl)")


@dataclass(frozen=True, slots=True)
class Driven:
    """How a driver ended: `status` is None where it had to be ended; `tail` is the last that it printed."""

    status: int | None
    tail: str


def check(argv: Sequence[str]) -> None:
    """Can it be started? Raises UsageError."""
    program = argv[0]
    if not shutil.which(program):
        exists = os.sep in program and Path(program).exists()
        problem = "is not an executable file" if exists else "does not exist" if os.sep in program else "is not on PATH"
        raise UsageError(f"{program} {problem}", field="--driver")
    script = argv[1] if len(argv) > 1 and INTERPRETERS.fullmatch(Path(program).name) else "-"
    if not script.startswith("-") and not Path(script).exists():
        raise UsageError(f"{program} is to run {script}, which does not exist", field="--driver")
    _check_interpreter(Path(shutil.which(program) or program))


def drive(
    argv: Sequence[str],
    *,
    url: str,
    header: str,
    task: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
    log: LogFile,
    go_on: Callable[[], bool],
) -> Driven:
    """Run it on one task until its end, or until `go_on` (asked all the time) says no; then nothing of it is left.

    Raises InfraError where it can't be started or was killed from outside; what `go_on` raises.
    """
    output = LabelledLog(log, "driver")
    process, status_fd = _start([*argv, str(task["task_id"])], _environment(url, header, task, folder, environment))
    record = folder / RECORD
    try:
        _record(record, process.pid)
        assert process.stdout is not None
        reader = threading.Thread(target=_copy, args=(process.stdout, output), daemon=True)
        reader.start()
        stopped = not _wait(process, go_on)
    finally:
        _end(process)
        with contextlib.suppress(OSError):
            record.unlink()
    reader.join(5)
    with os.fdopen(status_fd, "rb") as file:
        return Driven(None if stopped else _status(file.read()), output.tail())


def end_leftovers(folder: Path) -> None:
    """End drivers whose taskgate is gone, by the records that they left in the folders of attempts in `folder`."""
    for path in folder.glob(f"*/{RECORD}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(path.read_bytes())
            _end_tree(int(record["pid"]), float(record["created"]))


def _check_interpreter(path: Path) -> None:
    try:
        with path.open("rb") as file:
            line = file.readline(4096)
    except OSError:
        return
    if not line.startswith(b"#!"):
        return
    words = line[2:].split()
    if words and not Path(os.fsdecode(words[0])).exists():
        raise UsageError(f"{path}: its interpreter {os.fsdecode(words[0])} does not exist", field="--driver")


def _environment(
    url: str, header: str, task: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    return {
        **os.environ,
        **environment,
        "TASKGATE_URL": url,
        "TASKGATE_HEADER": header,
        "TASKGATE_TASK": json.dumps(task),
        "TASKGATE_TASK_ID": str(task["task_id"]),
        # A driver may change its folder.
        "TASKGATE_OUT": str(folder.resolve()),
    }


def _start(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """The guard, which starts the driver, and a file descriptor that tells how the driver ended. Raises InfraError."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(driver_guard.__file__)), str(writing), *argv],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise InfraError(f"the driver can't be started: {error}") from error
    finally:
        os.close(writing)
    return process, reading


def _wait(process: subprocess.Popen[bytes], go_on: Callable[[], bool]) -> bool:
    """True once it has ended by itself; False where it may not go on."""
    while process.poll() is None:
        if not go_on():
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """The guard ends the driver at the end of its stdin."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        _end_tree(process.pid, None)
        process.wait()


def _status(data: bytes) -> int:
    """Raises InfraError."""
    result = json.loads(data) if data else {"error": "its guard was killed"}
    if "error" in result:
        raise InfraError(f"the driver can't be run: {result['error']}")
    return int(result["status"])


def _record(path: Path, pid: int) -> None:
    with contextlib.suppress(OSError, psutil.Error):
        path.write_text(json.dumps({"pid": pid, "created": psutil.Process(pid).create_time()}))


def _end_tree(pid: int, created: float | None) -> None:
    """End the guard, its descendants and its session. A process that took over the number since is another's."""
    members: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        guard = psutil.Process(pid)
        if created is not None and abs(guard.create_time() - created) > SAME_SECONDS:
            return
        members = [guard, *guard.children(recursive=True)]
    # While a session has members, no other process gets its number.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == pid and (created is None or process.create_time() >= created - SAME_SECONDS):
                members.append(process)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(members, timeout=5)


def _copy(source: Any, log: LabelledLog) -> None:
    try:
        while data := os.read(source.fileno(), CHUNK_BYTES):
            log.add(STREAM, data)
        log.end()
    except (OSError, ValueError):
        # The log's disk is full, or it is closed: the task's own end says so.
        pass
    finally:
        source.close()
