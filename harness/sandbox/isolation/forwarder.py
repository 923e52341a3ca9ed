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

CHUNK = 64 * 1024
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


def joined(connect: Callable[[], Awaitable[Ends]]) -> Callable[..., Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await connect()
        except OSError:
            writer.close()
            return
        there = asyncio.ensure_future(pipe(reader, to_writer))
        # Whoever is asked has the last word.
        await pipe(to_reader, writer)
        there.cancel()
        to_writer.close()
        writer.close()

    return handle


async def server(port: int) -> Ends:
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return await asyncio.open_connection("::1", port)


async def main(config: dict[str, Any]) -> None:
    os.umask(0o177)
    if config["port"]:
        await asyncio.start_unix_server(joined(lambda: server(config["port"])), config["in"])
    if config["endpoint_port"]:
        leave = joined(lambda: asyncio.open_unix_connection(config["out"]))
        await asyncio.start_server(leave, "127.0.0.1", config["endpoint_port"])
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
