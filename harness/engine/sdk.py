"""The docker SDK's low-level client as taskgate uses it. No other module calls the SDK's private methods.

They are needed where a public method lacks a parameter or a time limit, or can't read Podman's answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import docker

from taskgate.harness.base import stable_environment

# How long a host may take to accept a connection. A busy engine answers late, but its host accepts at once.
CONNECT_SECONDS = 5.0
# docker's type stubs are incomplete.
Api = Any


class SdkClient(docker.APIClient):
    """An APIClient whose every call has a time limit.

    An engine's own certificate authority counts even if REQUESTS_CA_BUNDLE is set. Calls without a time limit in the
    SDK, such as a pull, may be silent for `silence` seconds.
    """

    silence: float | None = None

    def get(self, url: Any, **kwargs: Any) -> Any:
        """As the SDK's, with less time for the connection. Not with a body: its sending has the same limit."""
        seconds = kwargs.get("timeout", self.timeout)
        if not isinstance(seconds, tuple):
            connect = CONNECT_SECONDS if seconds is None else min(CONNECT_SECONDS, seconds)
            kwargs["timeout"] = (connect, seconds)
        return super().get(url, **kwargs)

    def post(self, url: Any, data: Any = None, json: Any = None, **kwargs: Any) -> Any:
        """As the SDK's, which attaches without a time limit."""
        kwargs.setdefault("timeout", self.timeout)
        return super().post(url, data, json, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        verify = self.verify if verify is None else verify
        merge = super().merge_environment_settings
        return stable_environment.reading(lambda: merge(url, proxies, stream, verify, cert))

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs.setdefault("timeout", self.timeout) is None:
            kwargs["timeout"] = self.silence
        return kwargs


def head_archive(api: Api, container: str, path: str) -> Any:
    """The answer to a HEAD for a path in a container, whatever its status. Raises the SDK's errors."""
    return api.head(api._url("/containers/{0}/archive", container), params={"path": path}, timeout=api.timeout)


def get_archive(api: Api, container: str, path: str, chunk_bytes: int) -> tuple[Iterator[bytes], Mapping[str, str]]:
    """The tar of a path in a container, in pieces, and the answer's headers. Raises the SDK's errors."""
    answer = api._get(
        api._url("/containers/{0}/archive", container),
        params={"path": path},
        stream=True,
        headers={"Accept-Encoding": "identity"},
    )
    api._raise_for_status(answer)
    return api._stream_raw_result(answer, chunk_bytes, False), answer.headers


def put_archive(api: Api, container: str, folder: str, data: Any, *, keep_folders: bool = False) -> None:
    """Unpack a tar (bytes, a file, or an iterator of pieces) into a folder of a container.

    `keep_folders`: refuse to replace a folder by a file, or a file by a folder. Raises the SDK's errors.
    """
    params = {"path": folder, **({"noOverwriteDirNonDir": "true"} if keep_folders else {})}
    answer = api._put(api._url("/containers/{0}/archive", container), params=params, data=data)
    api._raise_for_status(answer)


def inspect_with_size(api: Api, container: str, seconds: float | None = None) -> dict[str, Any]:
    """A container's description with its `SizeRw`, which `inspect_container` does not ask for. `seconds`: a time limit
    other than the client's."""
    limit = {"timeout": seconds} if seconds else {}
    answer = api._get(api._url("/containers/{0}/json", container), params={"size": 1}, **limit)
    return dict(api._result(answer, True))


def stats(api: Api, container: str) -> dict[str, Any]:
    """A container's resource usage so far, without the second that the engine takes to measure a difference."""
    answer = api._get(api._url("/containers/{0}/stats", container), params={"stream": 0, "one-shot": 1})
    return dict(api._result(answer, True))


def events(api: Api, container: str, since: int, until: int) -> list[dict[str, Any]]:
    """A container's events between two Unix times in seconds, as far as the engine still has them."""
    # On Podman the SDK's method waits for further events: an `until` alone does not end the stream there.
    period = {"stream": "false", "since": str(since), "until": str(until)}
    answer = api._get(api._url("/events"), params={**period, "filters": json.dumps({"container": [container]})})
    api._raise_for_status(answer)
    return [json.loads(line) for line in answer.text.splitlines() if line.strip()]


def response_of(stream: Any) -> Any:
    """The HTTP response that a stream or socket of the SDK reads from; None if unknown."""
    return getattr(stream, "_response", None)
