"""Runs in a container on the host's own network, by the runtime's Python; standard library only.

Listens on every address of the host and reports each visit. Its first message says where it listens. A line on stdin is
answered once every earlier visit is reported; the end of stdin is its end.
"""

import array
import contextlib
import fcntl
import json
import os
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

READ_BYTES = 512
SETTLE_SECONDS = 0.05
SILENT_SECONDS = 0.5
SIOCGIFCONF = 0x8912


def addresses() -> list[str]:
    """Every address that another machine or container could use for this host."""
    room = array.array("B", bytes(64 * 1024))
    where, length = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        size, _ = struct.unpack("iP", fcntl.ioctl(sock, SIOCGIFCONF, struct.pack("iP", length, where)))
    step = 16 + (24 if struct.calcsize("P") == 8 else 16)
    everything = {socket.inet_ntoa(room[at + 20 : at + 24].tobytes()) for at in range(0, size, step)}
    usable = {address for address in everything if not address.startswith("127.")}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            raw, _, _, scope = line.split()[:4]
            # Global addresses; one of a single link can't be used from elsewhere.
            if int(scope, 16) == 0:
                usable.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw)))
    return sorted(usable)


def listening(kind: int) -> socket.socket:
    """On all addresses of both families, or of IPv4 where there is no IPv6."""
    for family, anywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
        try:
            sock = socket.socket(family, kind)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((anywhere, 0))
            return sock
        except OSError:
            continue
    sys.exit("there is no address to listen on")


def report(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    tcp, udp = listening(socket.SOCK_STREAM), listening(socket.SOCK_DGRAM)
    tcp.listen(128)
    for listener in (tcp, udp):
        listener.setblocking(False)
    report({"addresses": addresses(), "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]})
    waiting = selectors.DefaultSelector()
    for source in (tcp, udp, sys.stdin):
        waiting.register(source, selectors.EVENT_READ)
    visitors: dict[socket.socket, tuple[str, float]] = {}
    asked = 0
    while True:
        ready: list[Any] = [key.fileobj for key, _ in waiting.select(SETTLE_SECONDS)]
        for source in ready:
            if source is sys.stdin:
                lines = os.read(0, 65536)
                if not lines:
                    return
                asked += lines.count(b"\n")
            elif source is tcp:
                visitor, where = tcp.accept()
                visitor.setblocking(False)
                visitors[visitor] = where[0], time.monotonic()
                waiting.register(visitor, selectors.EVENT_READ)
            elif source is udp:
                data, where = udp.recvfrom(READ_BYTES)
                report({"by": "udp", "from": where[0], "data": data.hex()})
                with contextlib.suppress(OSError):
                    udp.sendto(data, where)
        for visitor, (where, since) in list(visitors.items()):
            if visitor in ready or time.monotonic() - since > SILENT_SECONDS:
                data = b""
                with contextlib.suppress(OSError):
                    data = visitor.recv(READ_BYTES)
                report({"by": "tcp", "from": where, "data": data.hex()})
                waiting.unregister(visitor)
                visitor.close()
                del visitors[visitor]
        if not visitors and all(source is sys.stdin for source in ready):
            for _ in range(asked):
                report({"asked": True})
            asked = 0


if __name__ == "__main__":
    main()
