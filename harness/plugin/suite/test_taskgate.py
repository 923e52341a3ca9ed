"""The packaged suite: one image is one case. Its fixtures judge, the test only says the verdict aloud.

A verdict of infra is a set-up error and one of incompatible a skip; both come from the fixture.
"""

import pytest

from taskgate.harness.gate.verdict import Record, Verdict


def test_image(record: Record) -> None:
    """The image is sound: an agent can work in it."""
    if record.verdict is Verdict.BROKEN:
        pytest.fail(f"{record.check}: {record.reason}", pytrace=False)


# Whatever python_functions a project has set.
test_image.__test__ = True  # type: ignore[attr-defined]
