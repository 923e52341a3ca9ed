"""A rename inside a container, prepared while the data that it will move is still being sent."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from threading import Event, Thread
from typing import IO, Any, cast

from taskgate.harness.base import escape
from taskgate.harness.base.errors import TransferError
from taskgate.harness.engine import archive_api, classification
from taskgate.harness.sandbox.execute import Executed, execute

# Without the word on its stdin, also because this process was killed, it removes what has arrived so far.
_SCRIPT = """
read -r word
if [ "$word" = rename ] && mv -f -- "$1" "$2"; then exit 0; fi
rm -rf -- "$1"
[ "$word" != rename ]
"""


def can_rename(container: Any) -> bool:
    """Does the container run, and does it have `mv`? Raises InfraError."""
    api = container.client.api
    with classification.translated("inspecting a container"):
        state = api.inspect_container(container.id)["State"]
    if not state["Running"] or state.get("Paused"):
        return False
    return any(archive_api.stat(api, container.id, path) for path in ("/bin/mv", "/usr/bin/mv"))


class PendingRename:
    """`mv old new`, as root, waiting in the container until `finish` or `discard`.

    Starting a command takes an engine longer than receiving a small file, so that both are done at once. Docker locks a
    container while it unpacks something there: the command has to be under way before, as it is once this has returned.
    """

    def __init__(self, container: Any, old: str, new: str) -> None:
        self._container, self._old, self._new = container, old, new
        self._words: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._result: Future[Executed] = Future()
        self._under_way = Event()
        Thread(target=self._wait, daemon=True, name="rename").start()
        self._under_way.wait()

    def finish(self) -> None:
        """Rename. Raises TransferError, InfraError."""
        result = self._send(b"rename\n")
        if result.start_error:
            # The image may have no shell.
            result = self._execute(["mv", "-f", "--", self._old, self._new])
            if result.exit_code:
                self._execute(["rm", "-rf", "--", self._old])
        if result.exit_code:
            error = str(result.start_error or result.stderr.decode("utf-8", "replace")).strip()
            reason = f"{escape.line(error, 500)} (status {result.exit_code})"
            raise TransferError(f"{escape.line(self._new, 1000)} could not be put in its place: {reason}")

    def discard(self) -> None:
        """Remove what there is of `old`. Raises InfraError."""
        if self._send(b"discard\n").start_error:
            self._execute(["rm", "-rf", "--", self._old])

    def read(self, size: int = -1) -> bytes:
        """The command's stdin, which waits for the decision. First called when the engine has accepted the command."""
        self._under_way.set()
        return self._words.get()

    def _send(self, word: bytes) -> Executed:
        self._words.put(word)
        self._words.put(b"")
        return self._result.result()

    def _wait(self) -> None:
        argv = ["/bin/sh", "-c", _SCRIPT, "sh", self._old, self._new]
        try:
            self._result.set_result(self._execute(argv, stdin=cast(IO[bytes], self)))
        except BaseException as error:
            self._result.set_exception(error)
        finally:
            self._under_way.set()

    def _execute(self, argv: list[str], stdin: IO[bytes] | None = None) -> Executed:
        return execute(self._container, argv, stdin=stdin, user="0", workdir="/")
