"""HTTP requests that end in time, and whose credentials go only to the host that they are for."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from taskgate.harness.base import stable_environment
from taskgate.harness.base.errors import RegistryError

# The deadline of a thread's request, and the message if it passes.
_deadline = threading.local()


@contextmanager
def within(seconds: float, host: str) -> Iterator[None]:
    """Limit the time of this thread's requests, redirects and headers included. Raises RegistryError if it passes."""
    _deadline.time, _deadline.message = time.monotonic() + seconds, f"{host}: an answer took more than {seconds:g} s"
    try:
        yield
    finally:
        del _deadline.time


class Session(requests.Session):
    """Reads no ~/.netrc (credentials come from docker's configuration), and nothing beyond the deadline."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """As requests', whatever other threads do to the environment meanwhile."""
        merge = super().merge_environment_settings
        return stable_environment.reading(lambda: merge(url, proxies, stream, verify, cert))

    def __init__(self) -> None:
        super().__init__()
        self.auth = no_auth
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """The body of a redirect is not read: a registry could make it endless."""
        target = super().get_redirect_target(resp)
        if target is not None:
            resp.close()
            resp._content = b""
        return str(target) if target is not None else None

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove credentials that are for another host; unlike the original, add none from ~/.netrc."""
        sent_to, goes_to = str(response.request.url), str(prepared_request.url)
        stripped = self.should_strip_auth(sent_to, goes_to)  # type: ignore[no-untyped-call]
        if stripped and "Authorization" in prepared_request.headers:
            del prepared_request.headers["Authorization"]


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Timed(io.RawIOBase):
    """A socket's data until the deadline; the socket's own time limit holds for each piece as well."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw, self._each = sock, raw, sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        end = getattr(_deadline, "time", None)
        if end is None:
            return self._raw.readinto(buffer)
        left = end - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left if self._each is None else min(left, self._each))
            return self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() < end:
                raise
            raise RegistryError(_deadline.message) from None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(sock, self.fp.detach()))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager
