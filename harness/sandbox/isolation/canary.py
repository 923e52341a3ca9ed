"""Runs in a container on the host's own network, by the runtime's Python; standard library only.

Listens on every address of the host and tells of whoever comes. Its first words are where it listens. A line on stdin
is answered once all that came before it is told; the end of stdin is its end.
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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        size, _ = struct.unpack("iP", fcntl.ioctl(asked, SIOCGIFCONF, struct.pack("iP", length, where)))
    step = 16 + (24 if struct.calcsize("P") == 8 else 16)
    found = {socket.inet_ntoa(room[at + 20 : at + 24].tobytes()) for at in range(0, size, step)}
    found = {address for address in found if not address.startswith("127.")}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            raw, _, _, scope = line.split()[:4]
            # Global ones; an address of one link alone can't be named from elsewhere.
            if int(scope, 16) == 0:
                found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw)))
    return sorted(found)


def listening(kind: int) -> socket.socket:
    """On all addresses of both families, or of the older one where there is no other."""
    for family, anywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
        try:
            made = socket.socket(family, kind)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind((anywhere, 0))
            return made
        except OSError:
            continue
    sys.exit("no address to listen on")


def tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    tcp, udp = listening(socket.SOCK_STREAM), listening(socket.SOCK_DGRAM)
    tcp.listen(128)
    for listener in (tcp, udp):
        listener.setblocking(False)
    tell({"addresses": addresses(), "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]})
    waiting = selectors.DefaultSelector()
    for source in (tcp, udp, sys.stdin):
        waiting.register(source, selectors.EVENT_READ)
    visitors: dict[socket.socket, tuple[str, float]] = {}
    asked = 0
    while True:
        ready: list[Any] = [key.fileobj for key, _ in waiting.select(SETTLE_SECONDS)]
        for one in ready:
            if one is sys.stdin:
                lines = os.read(0, 65536)
                if not lines:
                    return
                asked += lines.count(b"\n")
            elif one is tcp:
                visitor, where = tcp.accept()
                visitor.setblocking(False)
                visitors[visitor] = where[0], time.monotonic()
                waiting.register(visitor, selectors.EVENT_READ)
            elif one is udp:
                data, where = udp.recvfrom(READ_BYTES)
                tell({"by": "udp", "from": where[0], "said": data.hex()})
                with contextlib.suppress(OSError):
                    udp.sendto(data, where)
        for visitor, (where, since) in list(visitors.items()):
            if visitor in ready or time.monotonic() - since > SILENT_SECONDS:
                data = b""
                with contextlib.suppress(OSError):
                    data = visitor.recv(READ_BYTES)
                tell({"by": "tcp", "from": where, "said": data.hex()})
                waiting.unregister(visitor)
                visitor.close()
                del visitors[visitor]
        if not visitors and all(one is sys.stdin for one in ready):
            for _ in range(asked):
                tell({"asked": True})
            asked = 0


if __name__ == "__main__":
    main()
