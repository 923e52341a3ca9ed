"""Quantities as people write them.

By hand, because libraries read sizes differently: humanfriendly takes `4g` for 4 * 10**9 and accepts `512 megabytes`,
docker.utils rejects `4GiB` and `1 t`.
"""

from __future__ import annotations

import re

SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?) ?([kKmMgGtT]?)(?:i?[bB])?", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes: `512m`, `4g`, `1.5 GiB`, or a plain number. Raises ValueError, also for a size out of range."""
    match = SIZE.fullmatch(text)
    if not match or not (value := int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))):
        raise ValueError("must be a size such as 512m, 4g or a number of bytes")
    if not 6 << 20 <= value < 1 << 62:
        raise ValueError("must be at least 6m, and less than 4 million t")
    return value
