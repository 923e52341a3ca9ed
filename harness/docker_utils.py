"""The container library under the names that users of HyperAgents' `utils/docker_utils` know."""

from taskgate.harness.sandbox.execute import Executed, execute
from taskgate.harness.sandbox.lifecycle import build_container, cleanup_container, make_container
from taskgate.harness.sandbox.log import get_thread_logger, safe_log, setup_logger
from taskgate.harness.sandbox.output import log_container_output
from taskgate.harness.sandbox.transfer import copy_from_container, copy_to_container

__all__ = [
    "Executed",
    "build_container",
    "cleanup_container",
    "copy_from_container",
    "copy_to_container",
    "execute",
    "get_thread_logger",
    "log_container_output",
    "make_container",
    "safe_log",
    "setup_logger",
]
