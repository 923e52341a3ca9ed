"""How soon a report on many images is open in a browser.

    .venv/bin/python benchmarks/report.py [--images 10000] [--broken 5]

The verdicts are put into the cache beforehand, `--broken` per cent of them broken, so that a true run of pytest makes
the report in a minute. It is opened in headless Chromium; the time ends when the table is drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from benchmarks import figures
from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.verdict import Evidence, Finding, Outcome, Record, Verdict
from taskgate.harness.tasks import manifest
from tests.browser import chromium

IMAGE = "taskgate-demo/sound:1"
ROWS = "return document.querySelectorAll('#results-table tbody').length"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=5)
    given = parser.parse_args()
    images.demo(images.connect())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = [{"id": f"task-{number}", "image": IMAGE} for number in range(given.images)]
        (folder / "m.yaml").write_text(
            json.dumps({"version": 1, "defaults": {"repo_path": "/testbed"}, "tasks": tasks})
        )
        judge(folder, given.broken)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "pytest", "-q", "--images=m.yaml", "--out=out", "--html=r.html"]
        done = subprocess.run([*command, "--self-contained-html"], cwd=folder, capture_output=True, check=False)
        if done.returncode != 1:
            sys.exit(done.stdout.decode())
        print(f"{given.images} images, known from before: the run took {time.perf_counter() - begun:.1f} s")
        print(f"report: {(folder / 'r.html').stat().st_size / 1e6:.2f} MB")
        with chromium(folder / "profile") as browser:
            browser.get("about:blank")
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                browser.get((folder / "r.html").as_uri())
                rows = browser.execute_script(ROWS)
                times.append(time.perf_counter() - begun)
            print(f"open in Chromium: {', '.join(f'{seconds:.2f}' for seconds in times)} s, {rows} rows")
        size = (folder / "r.html").stat().st_size
        told = {"broken": rows, "bytes": size, "seconds to open": statistics.median(times)}
        ran = f"benchmarks/report.py --images {given.images} --broken {given.broken}"
        figures.keep(f"report on {given.images}", ran, told)


def judge(folder: Path, percent: int) -> None:
    """Verdicts as a run would have left them in the cache."""
    engine, checks = Engine(), registry.load()
    cache = VerdictCache(folder / "out/cache.jsonl", None)
    names = [check.name for check in checks]
    for number, task in enumerate(manifest.load(folder / "m.yaml")):
        record = Record(task.id, task.image, engine.digest(task.image), engine.platform, Verdict.HEALTHY)
        record.findings = [Finding(name, Outcome.PASS, None, 0.01) for name in names]
        record.fingerprint = task.fingerprint(engine.platform, *[f"{check.name}={check.version}" for check in checks])
        record.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        if number % 100 < percent:
            check = checks[5 + number % 11]
            record.verdict, record.check, record.hint = Verdict.BROKEN, check.name, check.hint
            record.reason = f"what {check.name} found in number {number}"
            record.evidence = Evidence("some command", 1, "a line of output\n" * 20)
        cache.put(record)
    engine.close()


if __name__ == "__main__":
    main()
