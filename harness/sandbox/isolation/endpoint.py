"""What an agent may call."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

# In the relay's container: the machine that the engine runs on.
GATEWAY = "host.docker.internal"
NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL (http or https) and all below it. `headers` are added by the relay and are never seen in the task's
    container."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


def is_loopback(host: str) -> bool:
    """Does this name a machine's own loopback interface? The relay is a container with a network of its own, whatever
    the task's network is: there it would reach itself."""
    name = host.lower().rstrip(".").partition("%")[0]
    if name in NAMES or name.endswith((".localhost", ".localdomain")):
        return True
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(name)
    except ValueError:
        try:
            # 127.1, 0x7f000001: resolvers take them.
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except OSError:
            return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback or address.is_unspecified
