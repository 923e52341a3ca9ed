"""Cleanup at the start and at the end of a session."""

from __future__ import annotations

import socket
from pathlib import Path

from taskgate.harness.plugin.reaper import Reaper


def test_an_engine_that_was_not_there_is_not_asked_again(tmp_path: Path) -> None:
    """Unless something was judged, for which it must have started meanwhile."""
    path = tmp_path / "engine.sock"
    reaper = Reaper([f"unix://{path}"])
    reaper.reap_all()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0.2)
        reaper.reap_session("0" * 16, judged=False)
        try:
            listener.accept()
        except TimeoutError:
            pass
        else:
            raise AssertionError("it was asked again")
