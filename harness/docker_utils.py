"""The container library under the names that users of HyperAgents' `utils/docker_utils` know, and more."""

from taskgate.harness.base.errors import (
    CommandError,
    CommandNotFound,
    CommandNotPermitted,
    CommandNotStarted,
    CommandStopped,
    CommandTimeout,
    InfraError,
    PathIsDirectory,
    PathNotDirectory,
    PathNotFound,
    PathNotPermitted,
    PathTooLarge,
    ScriptFailed,
    TransferError,
    UserNotFound,
    WorkdirNotFound,
)
from taskgate.harness.sandbox.container_files import (
    FileStat,
    exists,
    read_bytes,
    read_text,
    stat,
    write_bytes,
    write_text,
)
from taskgate.harness.sandbox.execute import Executed, execute
from taskgate.harness.sandbox.lifecycle import build_container, cleanup_container, make_container
from taskgate.harness.sandbox.log import get_thread_logger, safe_log, setup_logger
from taskgate.harness.sandbox.output import log_container_output, read_container_output
from taskgate.harness.sandbox.transfer import copy_from_container, copy_to_container

__all__ = [
    "CommandError",
    "CommandNotFound",
    "CommandNotPermitted",
    "CommandNotStarted",
    "CommandStopped",
    "CommandTimeout",
    "Executed",
    "FileStat",
    "InfraError",
    "PathIsDirectory",
    "PathNotDirectory",
    "PathNotFound",
    "PathNotPermitted",
    "PathTooLarge",
    "ScriptFailed",
    "TransferError",
    "UserNotFound",
    "WorkdirNotFound",
    "build_container",
    "cleanup_container",
    "copy_from_container",
    "copy_to_container",
    "execute",
    "exists",
    "get_thread_logger",
    "log_container_output",
    "make_container",
    "read_bytes",
    "read_container_output",
    "read_text",
    "safe_log",
    "setup_logger",
    "stat",
    "write_bytes",
    "write_text",
]
