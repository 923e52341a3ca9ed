"""`taskgate`: what is not pytest's to do.

Exit status: 0 all well · 1 some image is broken (`merge`, `inject`), some agent failed (`run`, `status`), some build
failed (`build`) · 4 a mistake in what was given · 10 infra · 130 interrupted · 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, UsageError
from taskgate.harness.base.exit_codes import BROKEN_PIPE, INTERRUPTED, NO_VERDICT, USAGE
from taskgate.harness.cli import build, inject, logs, manifest, merge, run, runtime, status, stop


class Parser(argparse.ArgumentParser):
    """argparse ends with status 2, which pytest gives another meaning."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    made = Parser(prog="taskgate", description="A gate in front of AI-agent evaluations.")
    commands = made.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in (manifest, build, run, status, logs, stop, merge, runtime, inject):
        command.add(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    given = parser().parse_args(argv)
    act: Callable[[argparse.Namespace], int] = given.run
    try:
        return act(given)
    except UsageError as error:
        return _told(error, USAGE)
    except InfraError as error:
        return _told(error, NO_VERDICT)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more can be said, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # A file or a folder that can't be read or made. What has no number is no system's: a mistake of ours.
        if error.errno is None:
            raise
        return _told(f"{error.filename or 'a file'}: {error.strerror}", NO_VERDICT)
    except KeyboardInterrupt:
        return _told("interrupted; the same command goes on where this one stopped", INTERRUPTED)


def _told(problem: object, status: int) -> int:
    sys.stderr.write(f"taskgate: {escape.message(str(problem))}\n")
    return status
