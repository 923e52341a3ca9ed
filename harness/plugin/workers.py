"""pytest-xdist's workers as the controller sees them: workers that die, hosts that are gone, images to judge again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import pytest


class Workers:
    """One per run. `none_left`: every host is gone; what is not judged yet will not be."""

    def __init__(self, config: pytest.Config, task_id: Callable[[str], str | None]) -> None:
        self._config, self._task_id = config, task_id
        self._second: set[str] = set()
        self.none_left = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None, object, object]:
        """A host that can't be reached at the start is a usage error."""
        try:
            return (yield)
        except Exception as error:
            if type(error).__name__ == "HostNotFound":
                raise pytest.UsageError(f"--tx: no Python could be started at {error}") from error
            raise

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """If a worker dies before it has reported in, xdist ends with a traceback: start it once more instead."""
        nodes = self._config.pluginmanager.getplugin("dsession").nodemanager
        start = nodes.setup_node

        def start_again(spec: Any, putevent: Any) -> Any:
            with contextlib.suppress(EOFError, OSError):
                return start(spec, putevent)
            spec.id = None
            nodes.group.allocate_id(spec)
            try:
                return start(spec, putevent)
            except (EOFError, OSError) as error:
                raise pytest.UsageError(f"a worker died as it was started, and so did the next: {error}") from error

        nodes.setup_node = start_again

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist replaces a dead worker, and ends with a traceback if that fails, as when a host is cut off.

        Go on with the other workers then. A send to a worker that is gone is ignored: xdist learns of its end in turn.
        """
        send = node.sendcommand

        def send_if_there(*args: Any, **kwargs: Any) -> None:
            with contextlib.suppress(OSError):
                send(*args, **kwargs)

        node.sendcommand = send_if_there
        sessions = self._config.pluginmanager.getplugin("dsession")
        if "_clone_node" in vars(sessions):
            return
        replace = sessions._clone_node

        def replace_or_not(dead: Any) -> Any:
            try:
                return replace(dead)
            except Exception as error:
                sessions.report_line(f"\nno worker can be started in its place: {type(error).__name__}: {error}")
                # The dead one is still among them.
                if len(sessions._active_nodes) <= 1:
                    self.none_left, sessions.shouldstop = True, "no worker is left"
                return None

        sessions._clone_node = replace_or_not

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """What killed the worker is not known: give the image to another one, once."""
        if self._task_id(crashitem) is None or crashitem in self._second:
            return
        self._second.add(crashitem)
        # Not every scheduler can.
        with contextlib.suppress(NotImplementedError):
            sched.mark_test_pending(crashitem)
            report.outcome = "rerun"
