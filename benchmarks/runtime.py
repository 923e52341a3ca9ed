"""What it costs to bring the runtime into images, each way, side by side in one run.

    .venv/bin/python benchmarks/runtime.py [--images 10,100] [--rounds 40]

- mount, layer, build: taskgate's three modes, as a gate run would use them, one image after another.
- classic: what one would write by hand, `FROM image` and a `COPY` of the unpacked runtime, built with its folder as
  the context.

Every image has a layer of its own, so that no mode finds another image's layer. Disk is what the engine says of its
layers and volumes. Then: a container's start with and without the mount, and the runtime's first Python in a fresh
container, mounted and as a layer; medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from examples import images
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import dockerfile, layer, sources, volume
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.tasks.runtime_spec import Runtime


def classic(client: Any, unpacked: Path, bundle: Bundle, base: str, tag: str) -> None:
    context = io.BytesIO()
    text = f"FROM {base}\nCOPY runtime {bundle.prefix}\n".encode()
    with tarfile.open(fileobj=context, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        tar.add(unpacked, "runtime")
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)


def disk(client: Any) -> int:
    about = client.api.df()
    volumes = sum(int(one["UsageData"]["Size"]) for one in about.get("Volumes") or ())
    return int(about["LayersSize"]) + volumes


def start(client: Any, image: str, command: list[str], binds: list[str]) -> float:
    api = client.api
    begun = time.perf_counter()
    host = api.create_host_config(binds=binds)
    made = api.create_container(image, entrypoint=command[:1], command=command[1:], host_config=host)["Id"]
    api.start(made)
    assert api.wait(made)["StatusCode"] == 0
    taken = time.perf_counter() - begun
    api.remove_container(made, force=True, v=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", default="10,100")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    client, engine, store = images.connect(), Engine(), Store()
    images.demo(client)
    runtime = Runtime(builder=images.base(client), agent=str(CLONE / "examples/agent.py"))
    bundle = sources.resolve(engine, store, runtime, engine.platform)
    print(f"runtime: {bundle.size / 1e6:.0f} MB", flush=True)
    with tempfile.TemporaryDirectory() as name:
        unpacked = Path(name)
        with tarfile.open(store.tar(bundle)) as tar:
            tar.extractall(unpacked, filter="fully_trusted")
        modes: dict[str, Callable[[str, str], object]] = {
            "mount": lambda base, tag: volume.ensure(engine, bundle, store),
            "layer": lambda base, tag: layer.append(engine, bundle, store, base, tag),
            "build": lambda base, tag: dockerfile.build(engine, bundle, store, base, tag),
            "classic": lambda base, tag: classic(client, unpacked, bundle, base, tag),
        }
        print("| images | way | seconds | per image | MB on disk | times classic |\n| ---: | --- |" + " ---: |" * 4)
        for count in (int(text) for text in given.images.split(",")):
            bases = bases_of(client, count)
            taken: dict[str, tuple[float, int]] = {}
            for mode, way in reversed(modes.items()):
                if mode == "mount":
                    engine.remove_volume(volume.name_of(bundle))
                before, begun = disk(client), time.perf_counter()
                for number, base in enumerate(bases):
                    way(base, f"taskgate-bench/{mode}-{number}:1")
                taken[mode] = time.perf_counter() - begun, disk(client) - before
                for image in client.images.list(filters={"reference": f"taskgate-bench/{mode}-*"}):
                    client.images.remove(str(image.id), force=True)
                client.images.prune()
            figures.keep(
                f"runtime in {count}",
                "benchmarks/runtime.py",
                {mode: {"seconds": seconds, "bytes on disk": size} for mode, (seconds, size) in taken.items()},
            )
            for mode in modes:
                seconds, size = taken[mode]
                row = f"{seconds:.1f} | {seconds / count:.2f} | {size / 1e6:.0f} | {taken['classic'][0] / seconds:.1f}"
                print(f"| {count} | {mode} | {row} |", flush=True)
        starts(client, engine, store, bundle, given.rounds)


def bases_of(client: Any, count: int) -> list[str]:
    """Images that share all layers but their last."""
    lines = "RUN echo {} >/number"
    tags = [f"taskgate-bench/base-{number}:1" for number in range(count)]
    for tag in tags:
        images.build(client, tag, f"FROM taskgate-demo/sound:1\n{lines.format(tag)}")
    return [str(client.images.get(tag).id) for tag in tags]


def starts(client: Any, engine: Engine, store: Store, bundle: Bundle, rounds: int) -> None:
    base = str(client.images.get("taskgate-demo/sound:1").id)
    layered = layer.append(engine, bundle, store, base)
    volume.ensure(engine, bundle, store)
    bind, python = [volume.bind(bundle)], [f"{bundle.prefix}/bin/python3", "-c", "pass"]
    ways: dict[str, Callable[[], float]] = {
        "true, nothing mounted": lambda: start(client, base, ["/bin/true"], []),
        "true, mounted": lambda: start(client, base, ["/bin/true"], bind),
        "python, mounted": lambda: start(client, base, python, bind),
        "python, layer": lambda: start(client, layered, python, []),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(way())
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, seconds in medians.items():
        print(f"{name}: {seconds * 1000:.0f} ms")
    bare, mounted = medians["true, nothing mounted"], medians["true, mounted"]
    print(f"the mount adds {100 * (mounted / bare - 1):.1f} % to a container's start")


if __name__ == "__main__":
    main()
