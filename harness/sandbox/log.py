"""A log file a thread: evaluation code runs many tasks at once and wants each one's story in a file of its own."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from pathlib import Path

FORMAT = "%(asctime)s - %(threadName)s - %(levelname)s - %(message)s"

_current = threading.local()


def setup_logger(log_file: str | os.PathLike[str]) -> logging.Logger:
    """Make `log_file` (its folders too, appended to if it is there) this thread's log, from INFO upwards.

    The logger stands outside of logging's tree: nothing reaches the root's handlers, and its file is closed as soon
    as nobody holds it any more, be it that the thread ends or that it sets up another one. Raises OSError.
    """
    path = Path(log_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Any text can be logged, also what has no encoding. A handler has its own lock.
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.Logger(f"taskgate.{path.name}", logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    weakref.finalize(logger, handler.close)
    _current.logger = logger
    return logger


def get_thread_logger() -> logging.Logger | None:
    """The logger that this thread set up last, or None."""
    return getattr(_current, "logger", None)


def safe_log(message: object, level: int = logging.INFO) -> None:
    """Log to this thread's file; to stderr where it has none. Never raises for what a message holds."""
    logger = get_thread_logger()
    if logger:
        logger.log(level, "%s", message)
    elif level >= logging.INFO:
        text = f"{logging.getLevelName(level)} - {message}\n"
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
