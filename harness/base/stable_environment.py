"""Reading the whole environment while other threads change it.

urllib reads all variables to find proxies. pytest sets and deletes one for each test; a reader in another thread then
gets a KeyError for a variable that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TRIES = 20


def reading(read: Callable[[], T]) -> T:
    """What `read` returns, tried again while the environment changes under it. Raises what its last try raises."""
    for _ in range(TRIES - 1):
        try:
            return read()
        except (KeyError, RuntimeError):
            continue
    return read()
