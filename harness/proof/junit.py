"""Test outcomes from a JUnit XML file that a container wrote; hostile, so size and nesting are capped."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

MAX_BYTES = 64 << 20
MAX_TESTS = 200_000
# Entities could expand to gigabytes, and no test runner writes any.
DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
# Encodings of two bytes a character hide declarations from the search above.
NUL = b"\0"
BAD = {"failure": "failed", "error": "error", "skipped": "skipped"}


class JUnitError(ValueError):
    """The file is not a JUnit report, or too large."""


def outcomes(data: bytes) -> dict[str, str]:
    """Each test's outcome (`passed`, `failed`, `error`, `skipped`) by `classname::name`. Raises JUnitError.

    Of a test that is reported more than once, the worst outcome counts.
    """
    if len(data) > MAX_BYTES:
        raise JUnitError(f"the JUnit file is larger than {MAX_BYTES >> 20} MiB")
    if NUL in data:
        raise JUnitError("the JUnit file holds null bytes: write it in UTF-8")
    if DECLARATION.search(data):
        raise JUnitError("the JUnit file declares a document type or an entity")
    by_test: dict[str, str] = {}
    try:
        for _, element in ElementTree.iterparse(io.BytesIO(data), ["end"]):  # noqa: S314 # no entities, see above
            if element.tag == "testcase":
                _add(by_test, element)
                element.clear()
    except ElementTree.ParseError as error:
        raise JUnitError(f"the JUnit file is not XML: {error}") from error
    return by_test


def _add(by_test: dict[str, str], element: ElementTree.Element) -> None:
    group, name = element.get("classname"), element.get("name") or ""
    key = f"{group}::{name}" if group else name
    outcome = next((BAD[child.tag] for child in element if child.tag in BAD), "passed")
    order = ("passed", "skipped", "failed", "error")
    if key not in by_test or order.index(outcome) > order.index(by_test[key]):
        by_test[key] = outcome
    if len(by_test) > MAX_TESTS:
        raise JUnitError(f"the JUnit file holds more than {MAX_TESTS:,} tests")
