"""How fast a whole manifest's images are known to be there: 1,000 small ones in a registry on the loopback interface.

    .venv/bin/python benchmarks/registry.py [--images 1000]

Needs docker-registry. Seconds, pytest's start-up included; nothing is pulled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from tests import registry

WAYS = {
    "existence": ["--checks=image_exists"],
    "existence and platform": ["--checks=image_exists,platform"],
    "the same with -n 2": ["--checks=image_exists,platform", "-n", "2"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    names = [f"bench/task-{number:05}:v1" for number in range(given.images)]
    with registry.registry() as port, tempfile.TemporaryDirectory() as folder:
        registry.fill(port, names)
        rows = "".join(f"- 127.0.0.1:{port}/{name}\n" for name in names)
        (Path(folder) / "m.yaml").write_text(f"version: 1\ntasks:\n{rows}")
        taken = {}
        for way, args in WAYS.items():
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "--images=m.yaml", *args]
            begun = time.monotonic()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            taken[way] = time.monotonic() - begun
            print(f"{way:<24} {taken[way]:.1f} s", flush=True)
    figures.keep("registry", "benchmarks/registry.py", {"images": given.images, "seconds": taken})


if __name__ == "__main__":
    main()
