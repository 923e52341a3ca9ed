"""URLs without their secrets, for messages and records: a database's, an engine's or an endpoint's may hold any."""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?!/)")
_SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|api.?key)[^=&]*=)[^&]*", re.IGNORECASE)
# With these schemes a user name without a password may be a token.
_TOKENS = ("http", "https", "tcp")


def redacted(text: str) -> str:
    """`text` with `***` in place of the secrets in its first URL.

    Redacts too much rather than too little: a password may hold characters that should be percent-encoded."""
    match = _URL.search(text)
    if match:
        user, at, rest = text[match.end() :].rpartition("@")
        if at:
            name, colon, _ = user.partition(":")
            hidden = "***" if match[1].lower() in _TOKENS else f"{name}:***" if colon else name
            text = f"{text[: match.end()]}{hidden}@{rest}"
    return _SECRET.sub(r"\1***", text)
