"""A server agent: is it ready, and how it is given its task."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from taskgate.harness.base.errors import AgentFailed
from taskgate.harness.sandbox.log_file import LogFile

HEALTH_SECONDS = 60.0
CONNECT_SECONDS = 10.0
ANSWER_BYTES = 1 << 20
CHUNK_BYTES = 64 * 1024


class Client:
    """Speaks HTTP to a task's server at `url`; every request carries `headers`."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url, self.headers = url, dict(headers)
        self._session = requests.Session()
        # Nobody's proxy stands between this process and the loopback interface.
        self._session.trust_env = False
        self._session.headers.update(headers)

    def wait_ready(self, path: str, ended: Callable[[], str | None], seconds: float = HEALTH_SECONDS) -> None:
        """Ask until the answer is a status of 200 to 299. Raises AgentFailed; `ended` tells that the server has."""
        deadline, said = time.monotonic() + seconds, "it does not answer"
        while time.monotonic() < deadline:
            if how := ended():
                raise AgentFailed(f"the server {how} before it was ready")
            try:
                with self._session.get(
                    self.url + path, timeout=CONNECT_SECONDS, stream=True, allow_redirects=False
                ) as answer:
                    if answer.ok and not answer.is_redirect:
                        return
                    said = f"{path} answers {answer.status_code}"
            except requests.RequestException as error:
                said = f"{path}: {error}"
            time.sleep(0.05)
        raise AgentFailed(f"the server was not ready after {seconds:g} s: {said[:500]}")

    def post(self, path: str, task: Mapping[str, Any], go_on: Callable[[], bool]) -> bytes:
        """Hand over the task and wait for the answer's end; its first MiB.

        Raises AgentFailed, RequestException where the connection breaks, TimeoutError once `go_on` (asked every
        second) says no; the request then ends with the server.
        """
        taken: list[bytes | Exception] = []

        def ask() -> None:
            try:
                taken.append(self._post(path, task))
            except Exception as error:
                taken.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        while asking.is_alive():
            if not go_on():
                raise TimeoutError
            asking.join(1.0)
        if isinstance(taken[0], Exception):
            raise taken[0]
        return taken[0]

    def _post(self, path: str, task: Mapping[str, Any]) -> bytes:
        taken = b""
        with self._session.post(
            self.url + path, json=task, timeout=(CONNECT_SECONDS, None), stream=True, allow_redirects=False
        ) as answer:
            for piece in answer.iter_content(CHUNK_BYTES):
                taken += piece[: max(0, ANSWER_BYTES - len(taken))]
            if not answer.ok or answer.is_redirect:
                said = taken.decode("utf-8", "replace")
                raise AgentFailed(f"the server answers {path} with {answer.status_code}: {said}")
        return taken

    def close(self) -> None:
        self._session.close()


def drive(
    argv: tuple[str, ...],
    client: Client,
    *,
    task: Mapping[str, Any],
    folder: Path,
    secrets: Mapping[str, str],
    log: LogFile,
    go_on: Callable[[], bool],
) -> int | None:
    """Run a program of this host that works through the server; its status, None where it had to be ended.

    It finds TASKGATE_URL, the header TASKGATE_HEADER, the task as JSON in TASKGATE_TASK, and leaves files in
    TASKGATE_OUT. Raises AgentFailed where it can't be started.
    """
    header = next((f"{name}: {value}" for name, value in client.headers.items()), "")
    environment = {
        **os.environ,
        **secrets,
        "TASKGATE_URL": client.url,
        "TASKGATE_HEADER": header,
        "TASKGATE_TASK": json.dumps(task),
        "TASKGATE_TASK_ID": str(task["task_id"]),
        "TASKGATE_OUT": str(folder),
    }
    try:
        process = subprocess.Popen(
            [*argv, str(task["task_id"])],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise AgentFailed(f"the driver can't be started: {error}") from error
    assert process.stdout is not None
    reader = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            if not go_on():
                return None
            time.sleep(0.05)
        return process.returncode
    finally:
        # It and all that it left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)


DRIVER_STREAM = 3


def _copy(source: Any, log: LogFile) -> None:
    try:
        while data := os.read(source.fileno(), CHUNK_BYTES):
            log.add(DRIVER_STREAM, data)
        log.end(DRIVER_STREAM)
    except (OSError, ValueError):
        # The log's disk is full, or it is closed: the task's own end tells.
        pass
    finally:
        source.close()
