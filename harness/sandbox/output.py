"""What a command in a container printed, whatever form the docker SDK gave it, as lines of a log."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator
from typing import Any

import requests

from taskgate.harness.base import escape
from taskgate.harness.base.errors import ScriptFailed
from taskgate.harness.engine import classification
from taskgate.harness.engine.execs import exit_status
from taskgate.harness.engine.sdk import response_of
from taskgate.harness.sandbox.log import safe_log

KEEP_BYTES = 1024 * 1024
LINE_CHARACTERS = 64 * 1024
STATUS_SECONDS = 30.0
STARTED = re.compile(r"(?P<base>.*/exec/[0-9a-f]+/)start")


def log_container_output(exec_result: Any, verbose: bool = True) -> None:
    """Log the output of `container.exec_run(…)` or of `execute(…)` line by line, if `verbose`.

    As `read_container_output`, which returns the output.
    """
    read_container_output(exec_result, verbose)


def read_container_output(exec_result: Any, verbose: bool = False) -> str:
    """The output of `container.exec_run(…)` or `execute(…)` as text (its last MiB), logged line by line if `verbose`.

    `output` may be bytes, an iterator of bytes, pairs of them (`demux=True`), or None. Of a streamed exec the SDK
    tells no status: the engine is asked for it at the end.
    Raises ScriptFailed ("Script failed with exit code N") with `output` and `exit_code`, whatever `verbose` is;
    InfraError where the engine fails.
    """
    code, output = _parts_of(exec_result)
    kept = b""
    lines = _Lines(verbose)
    for piece in _pieces(output):
        kept = (kept + piece)[-KEEP_BYTES:]
        lines.add(piece)
    lines.end()
    text = kept.decode("utf-8", "replace")
    status = code if code is not None else _status_of_stream(output)
    if status:
        if verbose:
            safe_log(f"Script failed with exit code {status}", logging.ERROR)
        raise ScriptFailed(int(status), text)
    return text


def _parts_of(result: Any) -> tuple[Any, Any]:
    if hasattr(result, "exit_code"):
        return result.exit_code, result.output
    code, output = result
    return code, output


def _pieces(output: Any) -> Iterator[bytes]:
    if output is None:
        return
    if isinstance(output, str):
        yield output.encode("utf-8", "surrogateescape")
    elif isinstance(output, bytes | bytearray | memoryview):
        yield bytes(output)
    else:
        # A pair of streams, an iterator of pieces, or one of pairs.
        for piece in output:
            yield from _pieces(piece)


def _status_of_stream(output: Any) -> int | None:
    """The status of the exec that a stream of the SDK came from: its response knows the exec's address."""
    response = response_of(output)
    match = STARTED.fullmatch(getattr(response, "url", None) or "")
    if response is None or match is None:
        return None
    session = requests.Session()
    session.mount(match["base"], response.connection)
    with classification.translated("asking for a command's status"):
        return exit_status(
            lambda: session.get(match["base"] + "json", timeout=STATUS_SECONDS).json(), seconds=STATUS_SECONDS
        )


class _Lines:
    """Lines out of pieces that may end inside of a character."""

    def __init__(self, verbose: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest, self._verbose = "", verbose

    def add(self, piece: bytes) -> None:
        if not self._verbose:
            return
        *whole, self._rest = (self._rest + self._decoder.decode(piece)).split("\n")
        for line in whole:
            self._log(line)
        while len(self._rest) > LINE_CHARACTERS:
            self._log(self._rest[:LINE_CHARACTERS])
            self._rest = self._rest[LINE_CHARACTERS:]

    def end(self) -> None:
        rest = self._rest + (self._decoder.decode(b"", True) if self._verbose else "")
        if rest:
            self._log(rest)

    @staticmethod
    def _log(line: str) -> None:
        safe_log(escape.visible(line.rstrip("\r"), keep="\t"))
