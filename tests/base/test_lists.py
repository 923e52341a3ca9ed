"""Long lists in messages."""

from __future__ import annotations

import pytest

from taskgate.harness.base.lists import and_more, shortened


@pytest.mark.parametrize(
    ("limit", "text"), [(1, "<a> and 2 more"), (2, "<a>, <b> and 1 more"), (3, "<a>, <b>, <c>"), (9, "<a>, <b>, <c>")]
)
def test_shortened(limit: int, text: str) -> None:
    assert shortened(["a", "b", "c"], limit, "<{}>".format) == text


def test_and_more() -> None:
    assert and_more(5, 2) == "and 3 more"
    assert and_more(5, 2, "reasons") == "and 3 more reasons"
    assert and_more(12_000, 2) == "and 11,998 more"
    assert and_more(2, 2) == ""
