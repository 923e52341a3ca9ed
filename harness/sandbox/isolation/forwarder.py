"""Runs in the task's container, by the runtime's Python; standard library only.

Joins the unix sockets that lead to the relay with the container's own loopback interface:

- `in`: a socket that the relay connects to, joined to the `port` of the task's server.
- `out`: a socket that the relay serves, which whoever connects to `endpoint_port` is joined to.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from taskgate.harness.sandbox.isolation import sockets
from taskgate.harness.sandbox.isolation.sockets import Connection


def joined(connect: Callable[[], Awaitable[Connection]]) -> Callable[[Connection], Awaitable[None]]:
    async def handle(client: Connection) -> None:
        try:
            server = await connect()
        except OSError:
            return
        await sockets.join(client, server)

    return handle


async def server(port: int) -> Connection:
    try:
        return await sockets.connect_tcp("127.0.0.1", port)
    except OSError:
        return await sockets.connect_tcp("::1", port)


async def main(config: dict[str, Any]) -> None:
    os.umask(0o177)
    serving = []
    if config["port"]:
        inward = joined(lambda: server(config["port"]))
        serving.append(sockets.serve(sockets.listen_unix(config["in"]), inward))
    if config["endpoint_port"]:
        outward = joined(lambda: sockets.connect_unix(config["out"]))
        serving.append(sockets.serve(sockets.listen_tcp("127.0.0.1", config["endpoint_port"]), outward))
    print("ready", flush=True)
    await asyncio.gather(*serving)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
