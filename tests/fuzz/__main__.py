"""One target under atheris: `python -m tests.fuzz TARGET [libFuzzer's options and folders]`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["taskgate", "tomllib", "yaml"]):
    from tests.fuzz.targets import SEEDS, TARGETS

# A long input proves nothing that a short one doesn't, but for memory, which has a limit of its own.
LIMITS = ["-max_len=4096", "-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1"]

if __name__ == "__main__":
    name, *options = sys.argv[1:]
    folder = Path(options[-1]) if options and not options[-1].startswith("-") else None
    if folder and name in SEEDS:
        (folder / "seed").write_bytes(SEEDS[name])
    atheris.Setup([sys.argv[0], *LIMITS, *options], TARGETS[name])
    atheris.Fuzz()
