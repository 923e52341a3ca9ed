"""Docker's stream of an attached container: nothing of it is lost, and nothing waits without end."""

from __future__ import annotations

import http.client
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from taskgate.harness.engine.attach_stream import STDERR, STDOUT, AttachStream, wait_readable

HEADER = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


def _frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def _upgraded(data: bytes) -> tuple[Any, socket.socket]:
    """What the SDK returns for a response that came in one piece with `data`, and the engine's end of it."""
    here, there = socket.socketpair()
    there.sendall(HEADER + data)
    response = http.client.HTTPResponse(here)
    response.begin()
    file: Any = response.fp
    sock = file.raw
    sock._response = SimpleNamespace(raw=SimpleNamespace(_fp=response))
    return sock, there


@pytest.mark.parametrize("cut", range(0, 25, 4))
def test_what_came_with_the_header_is_not_lost(cut: int) -> None:
    data = _frame(STDOUT, b"out") + _frame(STDERR, b"err")
    sock, there = _upgraded(data[:cut])
    stream = AttachStream(sock)
    there.sendall(data[cut:])
    there.close()
    parts: list[tuple[int, bytes]] = []
    while (some := stream.read(1.0)) is not None:
        parts += some
    stream.close()
    for number, text in ((STDOUT, b"out"), (STDERR, b"err")):
        assert b"".join(part for stream, part in parts if stream == number) == text


def test_nothing_came_with_the_header() -> None:
    sock, there = _upgraded(b"")
    stream, began = AttachStream(sock), time.monotonic()
    assert not stream.buffered and wait_readable([stream], 0.05) == [] and stream.read(0.05) == []
    assert time.monotonic() - began < 1
    there.sendall(_frame(STDOUT, b"late"))
    assert wait_readable([stream], 1) == [stream] and stream.read(1.0) == [(STDOUT, b"late")]
    there.close()
    assert stream.read(1.0) is None
    stream.close()


def test_a_selector_does_not_see_what_is_buffered() -> None:
    sock, there = _upgraded(_frame(STDOUT, b"early"))
    stream = AttachStream(sock)
    assert stream.buffered and wait_readable([stream], 0) == [stream]
    assert stream.read(0.0) == [(STDOUT, b"early")]
    assert wait_readable([stream], 0) == []
    there.close()
    stream.close()


def test_sending_takes_what_there_is_room_for() -> None:
    here, there = socket.socketpair()
    stream, data = AttachStream(here), memoryview(bytes(16 << 20))
    sent = stream.send_some(data)
    assert 0 < sent < len(data) and stream.send_some(data) == 0
    there.close()
    with pytest.raises(BrokenPipeError):
        stream.send_some(data)
    stream.close()
