"""A log file for each thread: evaluation code runs many tasks at once, each with a log of its own."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

FORMAT = "%(asctime)s - %(threadName)s - %(levelname)s - %(message)s"

_current = threading.local()
_numbers = itertools.count(1)


def setup_logger(log_file: str | os.PathLike[str]) -> logging.Logger:
    """Make `log_file` (its folders too, appended to if it is there) this thread's log, from INFO upwards.

    Nothing reaches the root logger's handlers. `logging.getLogger` finds it by its name until the thread ends or sets
    up another one; its file is closed as soon as nobody holds the logger any more. Raises OSError.
    """
    path = Path(log_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Any text can be logged, also what has no encoding. A handler has its own lock.
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.Logger(f"taskgate:{path.absolute()}:{next(_numbers)}", logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    weakref.finalize(logger, handler.close)
    _current.registration = _Registration(logger)
    return logger


class _Registration:
    """Keeps a logger known to `logging` for as long as its thread uses it: by itself, logging would never forget it."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        known: dict[str, Any] = logging.Logger.manager.loggerDict
        known[logger.name] = logger
        weakref.finalize(self, known.pop, logger.name, None)


def get_thread_logger() -> logging.Logger | None:
    """The logger that this thread set up last, or None."""
    registration = getattr(_current, "registration", None)
    return registration.logger if registration else None


def safe_log(message: object, level: int = logging.INFO) -> None:
    """Log to this thread's file; to stderr where it has none. Never raises for what a message holds."""
    logger = get_thread_logger()
    if logger:
        logger.log(level, "%s", message)
    elif level >= logging.INFO:
        text = f"{logging.getLevelName(level)} - {message}\n"
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
