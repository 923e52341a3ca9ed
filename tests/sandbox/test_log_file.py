"""No secret reaches a log, however a stream is cut and however secrets overlap."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from taskgate.harness.sandbox.log_file import MAX_HELD_BYTES, LogFile, Mask

SECRETS = {"SHORT": "token-47", "LONG": "token-4711-rest", "OTHER": "rest-of-it", "DOTS": "a.b*c"}


def _masked(data: bytes, cuts: list[int]) -> bytes:
    mask, rest, out = Mask(SECRETS), b"", b""
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        clean, rest = mask.feed(rest + data[start:stop])
        out += clean
    return out + mask.all(rest)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x token-4711-rest y", "x [LONG] y"),
        ("x token-4711 y", "x [SHORT]11 y"),
        ("x token-4711-rest-of-it y", "x [LONG][OTHER] y"),
        ("token-4token-47", "token-4[SHORT]"),
        ("a.b*c axbxc", "[DOTS] axbxc"),
        ("ends with token-4", "ends with token-4"),
        ("ends with token-47", "ends with [SHORT]"),
    ],
)
def test_every_way_to_cut_it(text: str, expected: str) -> None:
    data = text.encode()
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert _masked(data, [first, second]) == expected.encode(), (first, second)


def test_random_streams_are_masked_as_a_whole() -> None:
    chance = random.Random(4711)
    for _ in range(300):
        words = [chance.choice([*SECRETS.values(), "tok", "en-", "x", " ", "rest"]) for _ in range(12)]
        data = "".join(words).encode()
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(5))
        masked = _masked(data, cuts)
        assert masked == Mask(SECRETS).all(data)
        assert not [value for value in SECRETS.values() if value.encode() in masked]


@pytest.mark.slow
def test_a_stream_of_nothing_but_secrets_is_written(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", {"A": "aaaa"})
    for _ in range(2 * MAX_HELD_BYTES // 65536 + 2):
        log.add(1, b"a" * 65536)
    assert 0 < (tmp_path / "log").stat().st_size < 1000
    log.close()
    assert "aaaa" not in (tmp_path / "log").read_text()


def test_streams_do_not_complete_each_other(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", SECRETS)
    log.add(1, b"token")
    log.add(2, b"-47\n")
    log.add(1, b"-47\n")
    log.close()
    assert (tmp_path / "log").read_text() == "-47\n[SHORT]\n"
