"""JUnit files as test runners write them, and as a hostile container may."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgate.harness.proof import junit

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="4">
<testcase classname="tests.test_a" name="test_good" time="0.1"/>
<testcase classname="tests.test_a" name="test_bad"><failure message="x">long</failure></testcase>
<testcase classname="tests.test_a" name="test_odd"><error message="x"/></testcase>
<testcase classname="tests.test_a" name="test_off"><skipped/></testcase></testsuite></testsuites>"""


def test_what_pytest_writes() -> None:
    assert junit.outcomes(PYTEST) == {
        "tests.test_a::test_good": "passed",
        "tests.test_a::test_bad": "failed",
        "tests.test_a::test_odd": "error",
        "tests.test_a::test_off": "skipped",
    }


def test_the_worst_of_two_outcomes_counts() -> None:
    again = b'<s><testcase name="a"/><testcase name="a"><error/></testcase><testcase name="a"/></s>'
    assert junit.outcomes(again) == {"a": "error"}


@pytest.mark.parametrize(
    "data",
    [b"", b"no xml", b"<a>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"\xff\xfe" * 10],
    ids=["empty", "text", "cut", "entity", "bytes"],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(junit.JUnitError):
        junit.outcomes(data)


def test_too_many_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junit, "MAX_TESTS", 2)
    with pytest.raises(junit.JUnitError, match="more than 2 tests"):
        junit.outcomes(b"<s>" + b"".join(b'<testcase name="%d"/>' % number for number in range(3)) + b"</s>")


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(junit.JUnitError):
        junit.outcomes(data)


def test_an_encoding_does_not_hide_a_declaration() -> None:
    with pytest.raises(junit.JUnitError, match="UTF-8"):
        junit.outcomes('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><s/>'.encode("utf-16"))
