"""Does it stay as it was? Many images in one run, and then one run after another.

    .venv/bin/python benchmarks/soak.py [--images 2000] [--minutes 60]

In the one run: memory and open files of the controller and of each worker, in its first and its last quarter. Then
rounds: the gate on 20 images, two of them broken, and an agent on four in the cleanroom. Over the rounds: what the
engine has, its own memory and open files, and what lies in the folders for temporary and for cached files, after the
first and after the last, and the most of each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import platformdirs

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from examples import images

HEAD = "version: 1\ndefaults: {pull: never, repo_path: null, python: null, checks: {git_available: off}}\ntasks:\n"
SECONDS = 2.0
# An agent that needs no more than a shell.
AGENT = (
    """for name in trajectory prediction; do"""
    """ printf '{"task_id": "%s", "answer": 42}' "$TASKGATE_TASK_ID" > "$TASKGATE_OUT/$name.json"; done"""
)


def load(client: Any, count: int) -> list[str]:
    """So many images, each with a configuration of its own, on one layer."""
    layer = images.archive(
        {"bin/sh": Path("/bin/busybox").read_bytes(), "tmp/x": b"", "root/x": b""}, {"bin/sh": 0o755}
    )
    names = [f"taskgate-soak/image-{number}:1" for number in range(count)]
    client.images.load(images.many(names, layer, client.version()["Arch"]))
    return names


def sample(process: subprocess.Popen[bytes]) -> dict[int, tuple[int, int]]:
    """kB of memory and number of open files of the controller and of its workers."""
    found = {}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with contextlib.suppress(OSError, IndexError):
        for pid in [process.pid, *map(int, children.read_text().split())]:
            status = Path(f"/proc/{pid}/status").read_text()
            found[pid] = int(status.partition("VmRSS:")[2].split()[0]), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return found


def one_run(folder: Path, names: list[str]) -> dict[str, Any]:
    """All of them in one run on four workers."""
    begun = time.monotonic()
    process = gate(folder, [{"id": name, "image": name} for name in names], "-n", "4")
    samples = []
    while process.poll() is None:
        samples.append(sample(process))
        time.sleep(SECONDS)
    assert process.returncode == 0, "not all of them are healthy"
    whole = [one for one in samples if len(one) == max(map(len, samples))]
    quarter = len(whole) // 4
    told: dict[str, Any] = {"images": len(names), "seconds": round(time.monotonic() - begun)}
    for name, some in (("first quarter", whole[:quarter]), ("last quarter", whole[-quarter:])):
        workers = [values for one in some for pid, values in one.items() if pid != process.pid]
        told[name] = {
            "controller, MB": statistics.median(one[process.pid][0] for one in some) // 1000,
            "controller, open files": statistics.median(one[process.pid][1] for one in some),
            "worker, MB": statistics.median(size for size, _ in workers) // 1000,
            "worker, open files": statistics.median(count for _, count in workers),
        }
    return told


def gate(folder: Path, rows: list[dict[str, str]], *args: str) -> subprocess.Popen[bytes]:
    (folder / "m.yaml").write_text(HEAD + "".join(f"- {json.dumps(row)}\n" for row in rows))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "--images=m.yaml", "--recheck"]
    return subprocess.Popen([*command, *args], cwd=folder, stdout=subprocess.DEVNULL)


def one_round(folder: Path, names: list[str], base: str) -> None:
    """The gate on all of them, two of them broken; then an agent on the first four, cut off from every network."""
    rows = [{"id": name, "image": name} for name in names]
    for row in rows[-2:]:
        row["workdir"] = "/nowhere"
    assert gate(folder, rows, "-n", "2").wait() == 1, "not as many are broken as were made so"
    counts = json.loads((folder / "results/preflight/verdicts.json").read_text())["counts"]
    assert (counts["broken"], counts["healthy"]) == (2, len(rows) - 2)
    room = {"pull": "never", "network": "none", "repo_path": None, "python": None, "runtime": {"builder": base}}
    tasks = [{"id": name.rpartition("/")[2], "image": name} for name in names[:4]]
    agent = {"run": ["sh", "-c", AGENT]}
    (folder / "run.yaml").write_text(json.dumps({"version": 1, "defaults": room, "tasks": tasks}))
    (folder / "agent.yaml").write_text(json.dumps(agent))
    command = [str(Path(sys.executable).with_name("taskgate")), "run", "--images=run.yaml", "--agent=agent.yaml"]
    subprocess.run([*command, "--out=run", "-j2"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    assert len(list((folder / "run").glob("*/prediction.json"))) == len(tasks)
    shutil.rmtree(folder / "run")


def state(client: Any) -> dict[str, int]:
    """What there is of the engine and of us when nothing of ours runs."""
    cache = platformdirs.user_cache_path("taskgate")
    found = {
        "containers": len(client.containers.list(all=True)),
        "volumes": len(client.volumes.list()),
        "networks": len(client.networks.list()),
        "images": len(client.api.images(quiet=True, all=True)),
        "our temporary files": len([one for one in Path(tempfile.gettempdir()).iterdir() if "taskgate" in one.name]),
        "our cached files": sum(1 for _ in cache.rglob("*")),
    }
    for engine in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if (engine / "comm").read_text().strip() in ("dockerd", "containerd"):
                name = (engine / "comm").read_text().strip()
                size = int((engine / "status").read_text().partition("VmRSS:")[2].split()[0]) // 1000
                found[f"{name}, MB"] = max(size, found.get(f"{name}, MB", 0))
                found[f"{name}, open files"] = len(list((engine / "fd").iterdir()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    client = images.connect()
    names, base = load(client, given.images), images.base(client)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            told: dict[str, Any] = {"one run": one_run(folder, names)}
            print(json.dumps(told, indent=1), flush=True)
            few, rounds, end = names[:20], 0, time.monotonic() + 60 * given.minutes
            states = []
            while time.monotonic() < end or rounds < 2:
                one_round(folder, few, base)
                rounds += 1
                states.append(state(client))
            told["rounds"] = {"minutes": given.minutes, "rounds": rounds, "first": states[0], "last": states[-1]}
            told["rounds"]["most"] = {key: max(one[key] for one in states) for key in states[0]}
            print(json.dumps(told["rounds"], indent=1), flush=True)
        figures.keep("soak", f"benchmarks/soak.py --images {given.images} --minutes {given.minutes:g}", told)
    finally:
        for name in names:
            client.api.remove_image(name)


if __name__ == "__main__":
    main()
