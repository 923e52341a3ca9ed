"""taskgate skips show | add | remove: the skip list by hand"""

from __future__ import annotations

import argparse
from typing import Any

from taskgate.harness.base import escape
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.exit_codes import OK
from taskgate.harness.base.redaction import redacted
from taskgate.harness.gate.skip_entry import Entry, check_id
from taskgate.harness.gate.skip_list import open_skip_list

DEFAULT = "config/known_broken_images.txt"


def add(commands: Any) -> None:
    parser = commands.add_parser("skips", help="show the skip list, or add and remove entries")
    kinds = parser.add_subparsers(required=True, metavar="show|add|remove", parser_class=type(parser))
    show = kinds.add_parser("show", help="every entry, with what is known of it")
    show.add_argument("ids", metavar="ID", nargs="*", help="only these tasks")
    show.set_defaults(run=_show)
    adding = kinds.add_parser("add", help="list tasks by hand: such entries are never removed by a run")
    adding.add_argument("ids", metavar="ID", nargs="+", help="the task's id")
    adding.set_defaults(run=_add)
    removing = kinds.add_parser("remove", help="forgive tasks: their images are judged again")
    removing.add_argument("ids", metavar="ID", nargs="+", help="the task's id")
    removing.set_defaults(run=_remove)
    for kind in (show, adding, removing):
        kind.add_argument("--skip-list", metavar="FILE|URL", default=DEFAULT, help="the list (default: %(default)s)")


def _show(given: argparse.Namespace) -> int:
    entries = open_skip_list(given.skip_list).read()
    for task_id in given.ids or entries:
        entry = entries.get(task_id)
        if entry is None:
            raise UsageError(f"{task_id!r} is not listed", file=redacted(given.skip_list))
        print(_line(entry))
    if not given.ids:
        print(f"{len(entries)} entries in {escape.line(redacted(given.skip_list), 1000)}")
    return OK


def _line(entry: Entry) -> str:
    if entry.by_hand:
        return f"{escape.line(entry.task_id)}  added by hand"
    when = " to ".join(dict.fromkeys(str(date)[:10] for date in sorted(filter(None, (entry.first, entry.last)))))
    reason = f"{entry.check or 'no check'}: {entry.reason or ''}"
    return f"{escape.line(entry.task_id)}  {when}  {escape.line(reason)}  {escape.line(entry.image or '')}".rstrip()


def _add(given: argparse.Namespace) -> int:
    for task_id in given.ids:
        check_id(task_id, "ID")
    skip_list = open_skip_list(given.skip_list)
    known = skip_list.read()
    # What a run found out about it would be removed by the next run that finds the image sound.
    skip_list.update([], [task_id for task_id in given.ids if task_id in known and not known[task_id].by_hand])
    skip_list.update([Entry(task_id) for task_id in given.ids], [])
    print(f"{len(set(given.ids))} listed by hand in {escape.line(redacted(given.skip_list), 1000)}")
    return OK


def _remove(given: argparse.Namespace) -> int:
    skip_list = open_skip_list(given.skip_list)
    known = skip_list.read()
    if missing := [task_id for task_id in given.ids if task_id not in known]:
        raise UsageError(f"not listed: {', '.join(map(repr, missing))}", file=redacted(given.skip_list))
    skip_list.discard(given.ids)
    print(f"{len(set(given.ids))} removed from {escape.line(redacted(given.skip_list), 1000)}")
    return OK
