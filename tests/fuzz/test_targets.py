"""Each target of the fuzzer on a few inputs: any bytes, and ones that are nearly right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS

# What turns one kind of thing into another, in one format or all.
PIECES = [b"null", b"-1", b"1e999", b"9" * 5000, b"[]", b"{}", b'"', b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"[" * 2000,
          b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"../..", b"NONCE 1 ", b"::", b"##[", "\u2028\u202e".encode()]  # fmt: skip


def _damaged(seed: bytes) -> st.SearchStrategy[bytes]:
    """The seed with parts cut out and others put in."""
    cuts = st.lists(
        st.tuples(st.integers(0, len(seed)), st.integers(0, 8), st.sampled_from(PIECES) | st.binary(max_size=8))
    )
    return cuts.map(lambda found: _cut(seed, found))


def _cut(seed: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in cuts:
        seed = seed[:at] + piece + seed[at + length :]
    return seed


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors(name: str, pytestconfig: pytest.Config) -> None:
    examples = 3000 if pytestconfig.option.long else 60

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.binary(max_size=200) | _damaged(SEEDS.get(name, b"")))
    def anything(data: bytes) -> None:
        TARGETS[name](data)

    anything()
