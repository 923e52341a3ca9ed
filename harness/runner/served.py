"""A server agent: is it ready, and how it is given its task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from taskgate.harness.base.errors import AgentFailed

HEALTH_SECONDS = 60.0
CONNECT_SECONDS = 10.0
ANSWER_BYTES = 1 << 20
CHUNK_BYTES = 64 * 1024
LAST_BYTES = 500


class AgentClient:
    """Speaks HTTP to a task's server at `url`; every request carries `headers`."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url, self.headers = url, dict(headers)
        self._session = requests.Session()
        # Nobody's proxy stands between this process and the loopback interface.
        self._session.trust_env = False
        self._session.headers.update(headers)

    def wait_ready(self, path: str, ended: Callable[[], str | None], seconds: float = HEALTH_SECONDS) -> None:
        """Ask until the answer is a status of 200 to 299. Raises AgentFailed; `ended`: how the server has ended."""
        deadline, last = time.monotonic() + seconds, "never answered"
        while time.monotonic() < deadline:
            if how := ended():
                raise AgentFailed(f"the server {how} before it was ready")
            try:
                with self._session.get(
                    self.url + path, timeout=CONNECT_SECONDS, stream=True, allow_redirects=False
                ) as answer:
                    if answer.ok and not answer.is_redirect:
                        return
                    text = next(answer.iter_content(LAST_BYTES), b"").decode("utf-8", "replace")
                    last = f"answered with status {answer.status_code}: {text}"
            except requests.RequestException as error:
                last = str(error)[:LAST_BYTES]
            time.sleep(0.05)
        raise AgentFailed(f"the server was not ready after {seconds:g} s; GET {path}: {last}")

    def post(self, path: str, task: Mapping[str, Any], go_on: Callable[[], bool]) -> bytes:
        """Hand over the task and wait for the answer's end; its first MiB.

        Raises AgentFailed, RequestException where the connection breaks, TimeoutError once `go_on` (asked every
        second) says no; the request then ends with the server.
        """
        results: list[bytes | Exception] = []

        def ask() -> None:
            try:
                results.append(self._post(path, task))
            except Exception as error:
                results.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        while thread.is_alive():
            if not go_on():
                raise TimeoutError
            thread.join(1.0)
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def _post(self, path: str, task: Mapping[str, Any]) -> bytes:
        body = b""
        with self._session.post(
            self.url + path, json=task, timeout=(CONNECT_SECONDS, None), stream=True, allow_redirects=False
        ) as answer:
            for piece in answer.iter_content(CHUNK_BYTES):
                body += piece[: max(0, ANSWER_BYTES - len(body))]
            if not answer.ok or answer.is_redirect:
                text = body.decode("utf-8", "replace")
                raise AgentFailed(f"the server answers {path} with {answer.status_code}: {text}")
        return body

    def close(self) -> None:
        self._session.close()
