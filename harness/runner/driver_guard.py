"""Runs a driver, and ends it with all that it started: at the driver's own end, or at the end of this program's stdin,
which comes at the latest when taskgate is killed.

    python driver_guard.py STATUS_FD ARGV...

Writes to STATUS_FD, in JSON, how the driver ended: {"status": N}, or {"error": "..."} where it can't be started.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading

import psutil

PR_SET_CHILD_SUBREAPER = 36
ROUNDS = 50


def adopt_orphans() -> None:
    """What the driver started and left becomes this process's child, wherever it has moved to."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> None:
    """Until there are none: a process may start another one while it is ended."""
    for _ in range(ROUNDS):
        children = psutil.Process().children(recursive=True)
        if not children:
            return
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=1)


def watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    end_children()
    os._exit(1)


def main() -> None:
    status_fd, argv = int(sys.argv[1]), sys.argv[2:]
    adopt_orphans()
    # The terminal's signals are taskgate's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch_stdin, daemon=True).start()
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=restore_signals)
    except OSError as error:
        result: dict[str, object] = {"error": str(error)}
    else:
        result = {"status": process.wait()}
    end_children()
    os.write(status_fd, json.dumps(result).encode())


def restore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
