"""taskgate merge: the verdicts of shards as one"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.exit_codes import BROKEN, NO_VERDICT, OK
from taskgate.harness.base.lists import shortened
from taskgate.harness.base.out_files import VERDICTS
from taskgate.harness.engine import ownership
from taskgate.harness.gate import merge, population, skip_list_sync
from taskgate.harness.gate.skip_list import open_skip_list
from taskgate.harness.gate.verdict import Verdict
from taskgate.harness.plugin import options
from taskgate.harness.tasks import task_set
from taskgate.reports import github
from taskgate.reports import merged as merged_files

IDS = 10


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "merge", help="merge the results of shards, and verify that every task has exactly one verdict"
    )
    parser.add_argument("parts", metavar="OUT", nargs="+", help="the shards' --out folders")
    parser.add_argument("--images", metavar="SOURCE", required=True, help="the manifest of all of them")
    parser.add_argument("--format", metavar="NAME", help="the format of SOURCE, if it can't be detected")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for verdicts, journal and cache")
    parser.add_argument(
        "--skip-list", metavar="FILE|URL", help="list to update: broken images are added, healthy ones removed"
    )
    parser.add_argument(
        "--trust-common-failures",
        action="store_true",
        help="list images as broken even if nearly all of them fail alike",
    )
    parser.add_argument(
        "--max-broken",
        metavar="N|P%",
        default="0",
        help="maximum number or share of broken images tolerated (default: 0)",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    limit = options.max_broken(given.max_broken)
    tasks = task_set.load(given.images, format=given.format)
    run_id = ownership.new_session()
    parts, out = [Path(part) for part in given.parts], Path(given.out)
    merged_files.check_target(parts, out)
    merged = merge.merge(parts, tasks)
    tally = merged.tally
    merged_files.write(parts, out, tally, run_id)
    skip_list = open_skip_list(given.skip_list) if given.skip_list else None
    listed = skip_list.read() if skip_list else {}
    common = population.common_failures(tally.records.values(), {task.id: task for task in tasks}, listed)
    trusted = not common or given.trust_common_failures
    if skip_list and trusted:
        skip_list_sync.update(skip_list, tally, run_id)
    github.write(tally)
    counts = tally.counts
    for line in population.banner(common, trusted=given.trust_common_failures):
        print(escape.line(line, 1000))
    print(f"{len(tasks)} images: {', '.join(f'{number} {verdict}' for verdict, number in counts.items())}")
    for check, reason, ids in tally.grouped(Verdict.BROKEN):
        print(f"  {len(ids):>5}  {escape.line(f'{check}: {reason}')}")
    _list("without a verdict", tally.unchecked)
    _list("judged twice", [f"{task} ({', '.join(parts)})" for task, parts in merged.duplicates.items()])
    _list("not in the manifest", merged.unexpected)
    print(f"verdicts:  {out / VERDICTS}")
    if not merged.whole or not trusted:
        return NO_VERDICT
    return OK if options.accepts(limit, counts["broken"], counts["broken"] + counts["healthy"]) else BROKEN


def _list(what: str, ids: list[str]) -> None:
    if ids:
        print(f"{what}: {shortened(ids, IDS, lambda task_id: escape.line(task_id, 100))}")
