"""What the way into a cleanroom costs: a request through relay and forwarder, and through an ordinary published port.

    .venv/bin/python benchmarks/relay.py [--requests 300] [--rounds 5]

Both reach the same small HTTP server in a container of the demo's base image; each request has a connection of its
own. Medians over all requests of interleaved rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from examples import images
from taskgate.harness.engine import ownership, reaper
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import sources
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.isolation.relay_link import RelayLink
from taskgate.harness.sandbox.isolation.tools import Tools
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Task

SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def ask(port: int, headers: Mapping[str, str]) -> float:
    begun = time.perf_counter()
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    made.request("GET", "/", headers=dict(headers))
    assert made.getresponse().read() == b"ok"
    made.close()
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    client: Any = images.connect()
    engine, session = Engine(), ownership.new_session()
    base = images.base(client)
    sources.resolve(engine, Store(), Runtime(builder=base), engine.platform)
    room = RelayLink(engine, Tools(engine, Store()), session, port=8000, endpoint=None, calls=None, seconds=3600)
    try:
        task = Task("relay", base, network="none", pull="never")
        container = Container(engine, engine.image(task.request), task, session, seconds=3600, binds=room.binds)
        container.start()
        room.join(container)
        made = engine.api.exec_create(container.id, ["python3", "-c", SERVER])
        engine.api.exec_start(made["Id"], detach=True)
        ordinary = client.containers.run(
            base, ["python3", "-c", SERVER], detach=True, init=True, ports={8000: ("127.0.0.1", None)},
            labels=ownership.labels(session, 3600),
        )  # fmt: skip
        ordinary.reload()
        published = int(ordinary.ports["8000/tcp"][0]["HostPort"])
        ways = {
            "relay": (int(room.url.rpartition(":")[2]), room.headers),
            "published port": (published, {}),
        }
        time.sleep(1)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, (port, headers) in ways.items():
                taken[name] += [ask(port, headers) for _ in range(given.requests)]
        medians = {name: statistics.median(found) for name, found in taken.items()}
        for name, median in medians.items():
            print(f"{name:<16} {median:.2f} ms")
        print(f"relay / published port: {medians['relay'] / medians['published port']:.2f}")
        figures.keep("relay", "benchmarks/relay.py", {"milliseconds": medians})
    finally:
        reaper.reap(engine, session)
        room.close()


if __name__ == "__main__":
    main()
