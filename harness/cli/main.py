"""`taskgate COMMAND`.

Exit status: 0 success · 1 some image is broken (`check`, `merge`, `inject`), some agent failed (`run`, `status`), some
build failed (`build`) · 4 a mistake in the arguments or files · 10 infra · 130 interrupted · 141 output pipe closed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import argcomplete

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import BROKEN_PIPE, INTERRUPTED, NO_VERDICT, USAGE
from taskgate.harness.base.version import version
from taskgate.harness.cli import (
    build,
    check,
    init,
    inject,
    logs,
    manifest,
    merge,
    prove,
    run,
    runtime,
    skips,
    status,
    stop,
)

COMMANDS = (check, init, manifest, build, run, status, logs, stop, merge, prove, skips, runtime, inject)


class Parser(argparse.ArgumentParser):
    """argparse ends with status 2, which pytest gives another meaning."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    created = Parser(prog="taskgate", description="A gate in front of AI-agent evaluations.")
    created.add_argument("--version", action="version", version=f"taskgate {version()}")
    commands = created.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return created


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser()
    argcomplete.autocomplete(arguments)
    given = arguments.parse_args(argv)
    act: Callable[[argparse.Namespace], int] = given.run
    try:
        return act(given)
    except UsageError as error:
        return _fail(error, USAGE)
    except InfraError as error:
        return _fail(error, NO_VERDICT)
    except BrokenPipeError:
        # The reader has gone; nothing more can be written, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # A file or folder that can't be read or made. An error without a number is not the system's: it is a bug.
        if error.errno is None:
            raise
        return _fail(f"{error.filename or 'a file'}: {error.strerror}", NO_VERDICT)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to continue", INTERRUPTED)


def _fail(problem: object, status: int) -> int:
    sys.stderr.write(f"taskgate: {escape.message(str(problem))}\n")
    return status
