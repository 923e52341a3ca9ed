"""A reader of the whole environment beside a thread that changes it."""

from __future__ import annotations

import os
import threading
import urllib.request

import pytest

from taskgate.harness.base import stable_environment


def test_a_variable_that_comes_and_goes_costs_no_reading() -> None:
    """The same readings fail now and then without it."""
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for number in range(50):
                os.environ[f"TASKGATE_TEST_{number}"] = "x"
            for number in range(50):
                del os.environ[f"TASKGATE_TEST_{number}"]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2000):
            stable_environment.reading(urllib.request.getproxies_environment)
    finally:
        over.set()
        thread.join()


def test_an_error_of_its_own_is_raised() -> None:
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError, match="mine"):
        stable_environment.reading(lambda: nothing["mine"])
